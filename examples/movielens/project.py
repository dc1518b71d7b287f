"""MovieLens-100k as a feed: a rating is an exposure, and a good one (4 or 5 stars) is a `like`."""

from __future__ import annotations

from bowerbird import declare as bb
from bowerbird.declare.features import Keys, Rate, Window

# --- Who and what ---------------------------------------------------------------------------------

user = bb.Entity("user", bb.INTEGER)
movie = bb.Entity("movie", bb.INTEGER)

users = bb.Table(
    "users",
    user,
    {"age": bb.NUMBER, "age_group": bb.TEXT, "gender": bb.TEXT, "occupation": bb.TEXT, "zip": bb.TEXT},
)
movies = bb.Table(
    "movies",
    movie,
    {"title": bb.TEXT, "year": bb.NUMBER, "decade": bb.TEXT, "genre": bb.TEXT, "genre2": bb.TEXT},
)

# --- What happens ---------------------------------------------------------------------------------

exposure = bb.Exposure("exposure", [user, movie])
rated = bb.Event("rated", [user, movie], {"rating": bb.NUMBER})
like = bb.Event("like", [user, movie])
poor = rated.where(rated["rating"] <= 2)

# --- Where it comes from --------------------------------------------------------------------------

sources = [
    bb.Source(
        "ratings",
        "ratings.csv",
        exposure,
        time=bb.Timestamp("timestamp", unit="s"),
        key=["user", "movie"],
        actions=[
            bb.Action(rated, when=bb.Field("rating") >= 1),
            bb.Action(like, when=bb.Field("rating") >= 4),
        ],
    ),
    bb.Source("users", "users.csv", users),
    bb.Source("movies", "movies.csv", movies),
]

# --- What a model sees ----------------------------------------------------------------------------

LIKED = 0.55
"""The share of likes that a key without history is taken to have."""

liked = bb.sequence(like, by=user, length=20, fields=[movie, movies["genre"], movies["decade"]])
disliked = bb.sequence(poor, by=user, length=10, fields=[movie, movies["genre"]])


def like_rate(by: Keys, strength: float, window: Window = "all") -> Rate:
    """Return likes per exposure of a key, drawn to LIKED as if by ``strength`` exposures."""
    return bb.rate(like, exposure, by=by, window=window, prior=LIKED, strength=strength)


features = {
    # Who asks, and what is asked about.
    "user": bb.category(user),
    "movie": bb.category(movie),
    "genre": bb.category(movies["genre"]),
    "genre2": bb.category(movies["genre2"]),
    "decade": bb.category(movies["decade"]),
    "year": bb.number(movies["year"]).standardise(),
    "age": bb.number(users["age"]).standardise(),
    "age_group": bb.category(users["age_group"]),
    "gender": bb.category(users["gender"]),
    "occupation": bb.category(users["occupation"]),
    "gender_genre": bb.cross(bb.category(users["gender"]), bb.category(movies["genre"])),
    "hour": bb.hour(),
    "weekday": bb.weekday(),
    # How generous is this user, now and in general?
    "user_like_rate": like_rate(user, 5.0),
    "user_like_rate_lately": like_rate(user, 5.0, bb.Decay("1h")),
    "user_mean": bb.mean(rated, rated["rating"], by=user),
    "user_ratings": bb.count(rated, by=user).log1p(),
    "user_ratings_1h": bb.count(rated, by=user, window="1h").log1p(),
    "user_since": bb.since(rated, by=user).log1p(),
    # How good is this movie?
    "movie_like_rate": like_rate(movie, 10.0),
    "movie_like_rate_30d": like_rate(movie, 5.0, "30d"),
    "movie_like_rate_lately": like_rate(movie, 5.0, bb.Decay("7d")),
    "movie_mean": bb.mean(rated, rated["rating"], by=movie),
    "movie_ratings": bb.count(rated, by=movie).log1p(),
    "movie_ratings_7d": bb.count(rated, by=movie, window="7d").log1p(),
    "movie_since": bb.since(rated, by=movie).log1p(),
    "above_user": bb.mean(rated, rated["rating"], by=movie) - bb.mean(rated, rated["rating"], by=user),
    # What do people like this user think of this movie, or of its kind?
    "gender_movie_rate": like_rate([users["gender"], movie], 8.0),
    "age_movie_rate": like_rate([users["age_group"], movie], 8.0),
    "occupation_movie_rate": like_rate([users["occupation"], movie], 8.0),
    "occupation_genre_rate": like_rate([users["occupation"], movies["genre"]], 20.0),
    "age_genre_rate": like_rate([users["age_group"], movies["genre"]], 20.0),
    "genre_like_rate": like_rate(movies["genre"], 20.0),
    # And this user of this kind of movie?
    "user_genre_rate": like_rate([user, movies["genre"]], 4.0),
    "user_genre2_rate": like_rate([user, movies["genre2"]], 4.0),
    "user_decade_rate": like_rate([user, movies["decade"]], 4.0),
    "user_genre_ratings": bb.count(rated, by=[user, movies["genre"]]).log1p(),
    "user_genre_mean": bb.mean(rated, rated["rating"], by=[user, movies["genre"]]),
    # The movies that this user liked and disliked last.
    "liked": liked,
    "disliked": disliked,
    "liked_genre": bb.match(liked, movies["genre"], what="fraction"),
    "liked_genre_count": bb.match(liked, movies["genre"]).log1p(),
    "liked_decade": bb.match(liked, movies["decade"], what="fraction"),
    "disliked_genre": bb.match(disliked, movies["genre"], what="fraction"),
}

# --- What is predicted, and for which place -------------------------------------------------------

will_like = bb.Label("like", like, within="5m")

home = bb.Scene(
    "home",
    user,
    movie,
    labels=[will_like],
    recall=[bb.Popular(like, window="30d", count=200), bb.CoVisitation(like, window="1d", count=200)],
    seen=[exposure, rated],
    diversity=bb.Diversity(movies["genre"], limit=3),
    slate_size=10,
)

project = bb.Project(
    name="movielens",
    user=user,
    item=movie,
    exposure=exposure,
    events=[rated, like],
    tables=[users, movies],
    sources=sources,
    features=features,
    labels=[will_like],
    scenes=[home],
)
