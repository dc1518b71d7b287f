"""KuaiRand: a short-video feed. Which of the shown videos does a user click, and watch for long?"""

from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
video = bb.Entity("video", bb.INTEGER)
author = bb.Entity("author", bb.INTEGER)

USER_CATEGORIES = [
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num_range",
    "fans_user_num_range", "friend_user_num_range", "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
]  # fmt: skip
USER_NUMBERS = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
VIDEO_CATEGORIES = ["video_type", "upload_type", "visible_status", "music_id", "music_type", "tag", "aspect"]
VIDEO_NUMBERS = ["video_duration", "uploaded", "server_width", "server_height"]

users = bb.Table("users", user, {**dict.fromkeys(USER_CATEGORIES, bb.TEXT), **dict.fromkeys(USER_NUMBERS, bb.NUMBER)})
videos = bb.Table(
    "videos",
    video,
    {
        "author": author,
        "duration_step": bb.INTEGER,
        **dict.fromkeys(VIDEO_CATEGORIES, bb.TEXT),
        **dict.fromkeys(VIDEO_NUMBERS, bb.NUMBER),
    },
)

# What the user does with an exposed video. A click happens as the video is shown; how long it was watched is
# known when the watching ends.
tab = {"tab": bb.INTEGER}
exposure = bb.Exposure("exposure", [user, video], tab)
click = bb.Event("click", [user, video], tab)
long_view = bb.Event("long_view", [user, video], tab)
like = bb.Event("like", [user, video], tab)
follow = bb.Event("follow", [user, video], tab)
profile_enter = bb.Event("profile_enter", [user, video], tab)
play = bb.Event("play", [user, video], {**tab, "outcome": bb.TEXT, "log_play": bb.NUMBER, "play_ratio": bb.NUMBER})
# What the user had been shown before the log began. It has no times of its own, only that of the last one, so
# it feeds lifetime counts and sequences, never windows.
watched = bb.Event("watched", [user, video], {**tab, "outcome": bb.TEXT, "long": bb.FLAG, "liked": bb.FLAG})

was_long = watched.where(watched["long"] == True)  # noqa: E712
was_liked = watched.where(watched["liked"] == True)  # noqa: E712

features = {
    "user": bb.category(user),
    "video": bb.category(video),
    "author": bb.category(videos["author"]),
    "tab": bb.category(exposure["tab"]),
    "hour": bb.hour("Asia/Shanghai"),
    "weekday": bb.weekday("Asia/Shanghai"),
    "duration_step": bb.category(videos["duration_step"]),
    **{name: bb.category(users[name]) for name in USER_CATEGORIES},
    **{name: bb.category(videos[name]) for name in VIDEO_CATEGORIES},
    **{f"{name}_log": bb.number(users[name]).log1p() for name in USER_NUMBERS},
    "duration_log": bb.number(videos["video_duration"]).log1p(),
    "upload_age": bb.age(videos["uploaded"]).log1p(),
    "tab_hour": bb.cross(bb.category(exposure["tab"]), bb.hour("Asia/Shanghai")),
    "tab_upload_type": bb.cross(bb.category(exposure["tab"]), bb.category(videos["upload_type"])),
}

# Rates of clicks and long views for many keys; long views and exposures of the history count, too.
KEYS = {
    "user": (user, 5),
    "video": (video, 20),
    "author": (author, 20),
    "music": (videos["music_id"], 20),
    "tag": (videos["tag"], 50),
    "user_author": ([user, author], 2),
    "user_tag": ([user, videos["tag"]], 3),
    "user_music_type": ([user, videos["music_type"]], 3),
    "user_aspect": ([user, videos["aspect"]], 3),
    "user_duration": ([user, videos["duration_step"]], 3),
    "user_upload_type": ([user, videos["upload_type"]], 3),
}
for name, (key, strength) in KEYS.items():
    features[f"{name}_long_rate"] = bb.rate(
        [long_view, was_long], [exposure, watched], by=key, prior=0.4, strength=strength
    )
    features[f"{name}_like_rate"] = bb.rate([like, was_liked], [exposure, watched], by=key, prior=0.02, strength=20)
    features[f"{name}_click_rate"] = bb.rate(click, exposure, by=key, prior=0.44, strength=strength)
    features[f"{name}_shown_log"] = bb.count([exposure, watched], by=key).log1p()

TAB_KEYS = {
    "user": (user, 3),
    "video": (video, 10),
    "tag": (videos["tag"], 20),
    "upload_type": (videos["upload_type"], 20),
    "duration": (videos["duration_step"], 20),
    "register": (users["register_days_range"], 20),
    "author": (author, 10),
    "aspect": (videos["aspect"], 20),
    "music_type": (videos["music_type"], 20),
    "video_type": (videos["video_type"], 20),
    "active_degree": (users["user_active_degree"], 20),
    "follow_range": (users["follow_user_num_range"], 20),
    "onehot1": (users["onehot_feat1"], 20),
    "onehot2": (users["onehot_feat2"], 20),
    "onehot3": (users["onehot_feat3"], 20),
    "duration_upload_type": ([videos["duration_step"], videos["upload_type"]], 20),
}
for name, (key, strength) in TAB_KEYS.items():
    by = [*(key if isinstance(key, list) else [key]), exposure["tab"]]
    features[f"{name}_tab_click_rate"] = bb.rate(click, exposure, by=by, prior=0.44, strength=strength)
    features[f"{name}_tab_long_rate"] = bb.rate(long_view, exposure, by=by, prior=0.31, strength=strength)
    features[f"{name}_tab_play"] = bb.mean(play, play["log_play"], by=by)

# Segments of users by video: what people like this one made of it.
for name in ("user_active_degree", "onehot_feat1", "onehot_feat3"):
    features[f"{name}_video_long_rate"] = bb.rate(
        [long_view, was_long], [exposure, watched], by=[users[name], video], prior=0.4, strength=20
    )

# The feeds that a user scrolls through, without those that are opened on purpose.
in_feed = exposure.where(exposure["tab"].is_in(1, 2, 4))
clicked_in_feed = click.where(click["tab"].is_in(1, 2, 4))
for name, key in {"user": user, "video": video}.items():
    features[f"{name}_feed_click_rate"] = bb.rate(clicked_in_feed, in_feed, by=key, prior=0.5, strength=5)

skipped = play.where(play["outcome"] == "skip")
features |= {
    "user_skip_rate": bb.rate(skipped, play, by=user, prior=0.4, strength=5),
    "user_skip_rate_2d": bb.rate(skipped, play, by=user, window=bb.Decay("2d"), prior=0.4, strength=3),
    "user_tab_skip_rate": bb.rate(skipped, play, by=[user, exposure["tab"]], prior=0.4, strength=3),
    "tab_skip_rate_1d": bb.rate(skipped, play, exposure["tab"], bb.Decay("1d"), prior=0.4, strength=30),
    "tab_click_rate_1d": bb.rate(click, exposure, exposure["tab"], bb.Decay("1d"), prior=0.44, strength=30),
    "tab_click_rate_1h": bb.rate(click, exposure, exposure["tab"], bb.Decay("1h"), prior=0.44, strength=30),
    "tab_long_rate_1d": bb.rate(long_view, exposure, exposure["tab"], bb.Decay("1d"), prior=0.31, strength=30),
    "tab_shown_1h": bb.count(exposure, exposure["tab"], bb.Decay("1h")).log1p(),
    "onehot8_click_rate": bb.rate(click, exposure, by=users["onehot_feat8"], prior=0.44, strength=20),
    "onehot8_long_rate": bb.rate(long_view, exposure, by=users["onehot_feat8"], prior=0.31, strength=20),
    "since_skip": bb.since(skipped, by=user).log1p(),
    "since_video_click": bb.since(click, by=video).log1p(),
    "user_history": bb.count(watched, by=user).log1p(),
    "user_history_long_rate": bb.rate(was_long, watched, by=user, prior=0.36, strength=5),
    "video_history_long_rate": bb.rate(was_long, watched, by=video, prior=0.36, strength=20),
    "author_history_long_rate": bb.rate(was_long, watched, by=author, prior=0.36, strength=20),
    "user_video_click": bb.rate(click, exposure, by=[user, video], prior=0.44, strength=1),
    "server_height": bb.number(videos["server_height"]),
    "server_width": bb.number(videos["server_width"]),
}

for half_life in ("10m", "1h", "6h", "1d", "3d"):
    window = bb.Decay(half_life)
    features[f"user_click_rate_{half_life}"] = bb.rate(click, exposure, user, window, prior=0.44, strength=2)
    features[f"user_long_rate_{half_life}"] = bb.rate(long_view, exposure, user, window, prior=0.31, strength=2)
    features[f"user_shown_{half_life}"] = bb.count(exposure, user, window).log1p()
    by = [user, exposure["tab"]]
    features[f"user_tab_click_rate_{half_life}"] = bb.rate(click, exposure, by, window, prior=0.44, strength=2)
    features[f"user_tab_long_rate_{half_life}"] = bb.rate(long_view, exposure, by, window, prior=0.31, strength=2)
    features[f"user_tab_play_{half_life}"] = bb.mean(play, play["log_play"], by, window)
    features[f"user_play_ratio_{half_life}"] = bb.mean(play, play["play_ratio"], user, window)

for span in ("1h", "1d", "7d"):
    features[f"video_click_rate_{span}"] = bb.rate(click, exposure, video, span, prior=0.44, strength=10)
    features[f"video_long_rate_{span}"] = bb.rate(long_view, exposure, video, span, prior=0.31, strength=10)
    features[f"video_shown_{span}"] = bb.count(exposure, video, span).log1p()
    features[f"author_long_rate_{span}"] = bb.rate(long_view, exposure, author, span, prior=0.31, strength=10)
    features[f"tag_long_rate_{span}"] = bb.rate(long_view, exposure, videos["tag"], span, prior=0.31, strength=20)
    features[f"user_shown_{span}"] = bb.count(exposure, user, span).log1p()

features |= {
    "video_play": bb.mean(play, play["log_play"], by=video),
    "video_play_ratio": bb.mean(play, play["play_ratio"], by=video),
    "user_play": bb.mean(play, play["log_play"], by=user),
    "user_play_ratio": bb.mean(play, play["play_ratio"], by=user),
    "author_play": bb.mean(play, play["log_play"], by=author),
    "user_video_shown": bb.count([exposure, watched], by=[user, video]),
    "user_video_long": bb.count([long_view, was_long], by=[user, video]),
    "user_follows": bb.count(follow, by=user),
    "user_profiles": bb.count(profile_enter, by=user),
    "user_author_follows": bb.count(follow, by=[user, author]),
    "since_exposure": bb.since(exposure, by=user).log1p(),
    "since_click": bb.since(click, by=user).log1p(),
    "since_long_view": bb.since(long_view, by=user).log1p(),
    "since_video_shown": bb.since([exposure, watched], by=[user, video]).log1p(),
    "since_author_shown": bb.since(exposure, by=[user, author]).log1p(),
    "since_tab": bb.since(exposure, by=[user, exposure["tab"]]).log1p(),
}

item_fields = [video, videos["author"], videos["tag"], videos["music_type"], videos["duration_step"]]
long_viewed = bb.sequence([long_view, was_long], by=user, length=50, fields=item_fields)
shown = bb.sequence([exposure, watched], by=user, length=50, fields=item_fields)
played_fields = [*item_fields, videos["upload_type"], videos["aspect"], play["outcome"], play["tab"]]
features |= {
    "played": bb.sequence([play, watched], by=user, length=50, fields=played_fields),
    "long_viewed_author": bb.match(long_viewed, videos["author"]),
    "long_viewed_tag": bb.match(long_viewed, videos["tag"], what="fraction"),
    "long_viewed_duration": bb.match(long_viewed, videos["duration_step"], what="fraction"),
    "shown_tag": bb.match(shown, videos["tag"], what="fraction"),
    "shown_author": bb.match(shown, videos["author"]),
    "shown_duration": bb.match(shown, videos["duration_step"], what="fraction"),
}

click_label = bb.Label("click", click, within="1m")
long_view_label = bb.Label("long_view", long_view, within="1h")

keys = {"user": "user_id", "video": "video_id"}
sources = [
    bb.Source("users", "users.csv", users, key=["user_id"], columns={"user": "user_id"}),
    bb.Source("videos", "videos.csv", videos, key=["video_id"], columns={"video": "video_id", "author": "author_id"}),
    bb.Source(
        "history",
        "history.parquet",
        watched,
        bb.Timestamp("time_ms", unit="ms"),
        id="watch_id",
        columns={**keys, "long": "long_watch"},
    ),
    bb.Source(
        "log",
        "log.parquet",
        exposure,
        bb.Timestamp("time_ms", unit="ms"),
        key=["user_id", "video_id", "time_ms"],
        columns=keys,
        actions=[
            bb.Action(click, "is_click"),
            bb.Action(long_view, "long_view", after=("play_time_ms", "ms")),
            bb.Action(like, "is_like", after=("play_time_ms", "ms")),
            bb.Action(follow, "is_follow", after=("play_time_ms", "ms")),
            bb.Action(profile_enter, "is_profile_enter", after=("play_time_ms", "ms")),
            bb.Action(play, bb.Field("play_time_ms") >= 0, after=("play_time_ms", "ms")),
        ],
    ),
]

feed = bb.Scene(
    "feed",
    user,
    video,
    [click_label, long_view_label],
    recall=[bb.Popular(long_view, "7d"), bb.CoVisitation(long_view, "1d")],
    seen=[exposure],
    weights={"long_view": 1.0},
    diversity=bb.Diversity(videos["author"], 2),
)

project = bb.Project(
    name="kuairand",
    exposure=exposure,
    user=user,
    item=video,
    events=[click, long_view, like, follow, profile_enter, play, watched],
    tables=[users, videos],
    features=features,
    labels=[click_label, long_view_label],
    scenes=[feed],
    sources=sources,
)
