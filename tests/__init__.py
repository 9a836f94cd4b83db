"""The tests, as a package so that ``from tests.strategies import …`` finds them."""
