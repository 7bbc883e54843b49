"""The local web page: drop an image, see what each task says of it."""

from importlib.resources import files


def page() -> bytes:
    """The page, one file without anything from elsewhere; it asks the server that shows it."""
    return files(__name__).joinpath("page.html").read_bytes()
