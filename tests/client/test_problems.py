import msgspec
import pytest

from bowerbird.client.call import Reply
from bowerbird.client.problems import error_of
from bowerbird.errors import BowerbirdError, CorruptionError, DeclarationError, InputError
from bowerbird.server.web.problems import problem_document


def answer(status: int, content: object) -> Reply:
    return Reply("http://server/x", status, {}, msgspec.json.encode(content))


def classes(parent: type[BowerbirdError]) -> list[type[BowerbirdError]]:
    return [parent, *(each for child in parent.__subclasses__() for each in classes(child))]


@pytest.mark.parametrize("kind", [each for each in classes(BowerbirdError) if each is not DeclarationError])
def test_every_error_keeps_its_class_and_words(kind: type[BowerbirdError]) -> None:
    if kind.__init__ is not BowerbirdError.__init__:
        pytest.skip("it is not made of a sentence and a remedy")
    error = error_of(answer(kind.status, problem_document(kind("What.", "Remedy."), "1")))
    assert (type(error), error.what, error.remedy) == (kind, "What.", "Remedy.")


def test_codes_are_unique() -> None:
    codes = [each.code for each in classes(BowerbirdError)]
    assert len(codes) == len(set(codes))


def test_an_unknown_code_and_a_proxy_page_are_errors_too() -> None:
    odd = error_of(answer(418, {"code": "teapot", "detail": "Short.", "remedy": "Stout."}))
    assert (odd.code, odd.what) == ("teapot", "Short.")
    page = Reply("http://server/x", 502, {}, b"<html>")
    assert "without a problem document" in error_of(page).what
    assert not isinstance(error_of(page), InputError | CorruptionError)
