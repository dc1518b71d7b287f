"""A second shop, of the operations that the first one lacks; the engines' conformance tests read both."""

from __future__ import annotations

from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.TEXT)
brand = bb.Entity("brand", bb.TEXT)

users = bb.Table("users", user, {"city": bb.TEXT, "taste": bb.VECTOR(2)})
items = bb.Table("items", item, {"brand": brand, "colour": bb.TEXT, "price": bb.NUMBER, "embedding": bb.VECTOR(3)})
brands = bb.Table("brands", brand, {"country": bb.TEXT, "look": bb.VECTOR(2)})

exposure = bb.Exposure("exposure", [user, item], {"page": bb.INTEGER, "position": bb.NUMBER})
click = bb.Event("click", [user, item], {"page": bb.INTEGER}, lateness="1h")
order = bb.Event("order", [user, item], {"amount": bb.NUMBER, "coupon": bb.TEXT}, lateness="1d", beyond="reject")

amount = order["amount"]
colours = bb.top(click, items["colour"], by=user, k=2, capacity=2)
buyers = bb.top([order, click], user, by=item, k=3)
fresh_brands = bb.top(click, items["brand"], by=user, k=2, ttl="2h")
seen = bb.sequence(click, by=user, length=3, fields=[item, items["price"]], distinct=True)
session = bb.sequence([click, order], by=user, length=4, fields=[item, items["colour"]], ttl="30m")
history = bb.sequence([click, order], by=user, length=40, fields=[item, items["price"]])
pair_items = bb.top(click, item, by=[user, items["colour"]], k=2, capacity=3)
pair_history = bb.sequence(click, by=[user, items["brand"]], length=3, fields=[item], distinct=True, ttl="5h")
bias = bb.bias(exposure["position"], serve=1)

FEATURES: dict[str, object] = {
    "user": bb.category(user),
    "item": bb.category(item),
    "smallest": bb.minimum(order, amount, by=user),
    "smallest_1d": bb.minimum(order, amount, by=user, window="1d"),
    "largest_1h": bb.maximum(order, amount, by=item, window="1h"),
    "largest_ttl": bb.maximum(order, amount, by=item, ttl="3h"),
    "spread_all": bb.deviation(order, amount, by=user),
    "spread_7d": bb.deviation(order, amount, by=brand, window="7d", scale=100),
    "spread_fine": bb.deviation(order, amount, by=item, scale=1 << 20),
    "spent": bb.total(order, amount, by=user, window="1d"),
    "mean_ttl": bb.mean(order, amount, by=user, ttl="2h"),
    "clicks_ttl": bb.count(click, by=user, ttl="1h"),
    "clicks_7d": bb.count(click, by=item, window="7d"),
    "decayed_sum": bb.total(order, amount, by=user, window=bb.Decay("1h")),
    "decayed_mean": bb.mean(order, amount, by=item, window=bb.Decay("30m"), scale=100),
    "decayed_count": bb.count([click, order], by=item, window=bb.Decay("10m")),
    "since_ttl": bb.since(click, by=user, ttl="45m"),
    "since_first": bb.since_first(click, by=user),
    "since_first_ttl": bb.since_first([click, order], by=item, ttl="1h"),
    "last_item": bb.latest([click, order], item, by=user),
    "last_colour": bb.latest(click, items["colour"], by=user, ttl="1h"),
    "last_amount": bb.latest(order, amount, by=item),
    "last_amount_log": bb.latest(order, amount, by=user).log1p(),
    "colours": colours,
    "buyers": buyers,
    "fresh_brands": fresh_brands,
    "seen": seen,
    "session": session,
    "history": history,
    "pair_items": pair_items,
    "pair_history": pair_history,
    "pair_item_count": bb.match(pair_items, item),
    "pair_since": bb.match(pair_history, item, what="since"),
    "pair_largest": bb.maximum(order, amount, by=[user, items["brand"]], window="1d"),
    "pair_latest": bb.latest(order, order["coupon"], by=[user, items["colour"]]),
    "all_latest": bb.latest(order, amount),
    "all_colours": bb.top(click, items["colour"], by=(), k=3),
    "all_spread": bb.deviation(order, amount, window="1d"),
    "colour_count": bb.match(colours, items["colour"]),
    "colour_share": bb.match(colours, items["colour"], what="fraction"),
    "colour_since": bb.match(colours, items["colour"], what="since"),
    "buyer_count": bb.match(buyers, user),
    "brand_share": bb.match(fresh_brands, items["brand"], what="fraction"),
    "seen_since": bb.match(seen, item, what="since"),
    "session_share": bb.match(session, items["colour"], what="fraction"),
    "embedding": bb.vector(items["embedding"]),
    "look": bb.vector(brands["look"]),
    "taste": bb.vector(users["taste"]),
    "position": bias,
    "position_log": bias.log1p(),
    "page": bb.bias(exposure["page"], serve=0),
    "page_city": bb.cross(bb.bias(exposure["page"], serve=0), bb.category(users["city"])),
    "amount_range": bb.maximum(order, amount, by=user) - bb.minimum(order, amount, by=user),
}

FUNCTIONS: dict[str, object] = {
    "spread": bb.function("shop_functions:spread", bb.number(items["price"]), bb.latest(order, amount, by=user)),
    "same_colour": bb.function(
        "shop_functions:same",
        bb.category(items["colour"]),
        bb.latest(click, items["colour"], by=user),
        output="category",
    ),
}

project = bb.Project(
    name="shop_more",
    exposure=exposure,
    user=user,
    item=item,
    events=[click, order],
    tables=[users, items, brands],
    features=FEATURES | FUNCTIONS,  # type: ignore[arg-type]
    labels=[bb.Label("click", click, within="1h")],
)
