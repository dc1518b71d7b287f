"""A small shop that uses every operation: the project that plan and engine tests share."""

from __future__ import annotations

from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.TEXT)
brand = bb.Entity("brand", bb.TEXT)

users = bb.Table("users", user, {"city": bb.TEXT, "member": bb.FLAG, "joined": bb.NUMBER})
items = bb.Table("items", item, {"brand": brand, "colour": bb.TEXT, "price": bb.NUMBER})
brands = bb.Table("brands", brand, {"country": bb.TEXT})

exposure = bb.Exposure("exposure", [user, item], {"page": bb.INTEGER, "position": bb.NUMBER})
click = bb.Event("click", [user, item], {"page": bb.INTEGER})
order = bb.Event("order", [user, item], {"amount": bb.NUMBER})

clicked = bb.sequence(click, by=user, length=5, fields=[item, items["colour"], items["price"]])
bought = bb.sequence([order, click], by=item, length=3, fields=[user])

FEATURES: dict[str, object] = {
    "user": bb.category(user),
    "item": bb.category(item),
    "brand": bb.category(items["brand"]),
    "country": bb.category(brands["country"]),
    "page": bb.category(exposure["page"]),
    "member": bb.category(users["member"]),
    "position": bb.number(exposure["position"]),
    "price_log": bb.number(items["price"]).log1p(),
    "price_clipped": bb.number(items["price"]).clip(-1.0, 3.0),
    "price_bucket": bb.number(items["price"]).bucketise(boundaries=[0.0, 1.0, 5.0]),
    "age": bb.age(users["joined"]),
    "hour": bb.hour("Europe/Berlin"),
    "weekday": bb.weekday("Asia/Shanghai"),
    "city_brand": bb.cross(bb.category(users["city"]), bb.category(items["brand"])),
    "clicks_1h": bb.count(click, by=user, window="1h"),
    "clicks_1d": bb.count(click, by=item, window="1d"),
    "clicks_all": bb.count(click, by=brand),
    "clicks_global": bb.count(click, window="7d"),
    "spent_7d": bb.total(order, order["amount"], by=user, window="7d"),
    "mean_order": bb.mean(order, order["amount"], by=items["brand"]),
    "mean_decayed": bb.mean(order, order["amount"], by=item, window=bb.Decay("6h")),
    "decayed": bb.count([click, order], by=[user, items["brand"]], window=bb.Decay("1h")),
    "rate": bb.rate(click, exposure, by=item, window="1d", prior=0.1, strength=5.0),
    "page_rate": bb.rate(click, exposure, by=[user, exposure["page"]], prior=0.2, strength=2.0),
    "big_orders": bb.count(order.where(order["amount"] >= 1.0, items["colour"] == "red"), by=user),
    "not_red": bb.count(click.where(items["colour"] != "red"), by=user),
    "since_click": bb.since(click, by=user),
    "clicked": clicked,
    "bought": bought,
    "colour_matches": bb.match(clicked, items["colour"]),
    "item_since": bb.match(clicked, item, what="since"),
    "colour_share": bb.match(clicked, items["colour"], what="fraction"),
    "per_click": bb.total(order, order["amount"], by=user) / bb.count(click, by=user),
    "more_clicks": bb.count(click, by=user, window="1h") - bb.count(order, by=user, window="1h"),
}

click_label = bb.Label("click", click, within="1h")
order_label = bb.Label("order", order, within="1d", given=click_label)

project = bb.Project(
    name="shop",
    exposure=exposure,
    user=user,
    item=item,
    events=[click, order],
    tables=[users, items, brands],
    features=FEATURES,  # type: ignore[arg-type]
    labels=[click_label, order_label],
    scenes=[bb.Scene("home", user, item, [click_label, order_label])],
)
