"""Answers of the store, by their kind. One of another kind is a defect: all raise TypeError."""

from __future__ import annotations

from gateway.store.client import Reply


def bytes_of(reply: Reply) -> bytes:
    """Return an answer that is a string, as it is."""
    if not isinstance(reply, bytes):
        raise TypeError("the store answers text here")
    return reply


def text_of(reply: Reply) -> str:
    """Return an answer that is a text."""
    return bytes_of(reply).decode()


def integer_of(reply: Reply) -> int:
    """Return an answer that is a number."""
    if not isinstance(reply, int):
        raise TypeError("the store answers an integer here")
    return reply


def list_of(reply: Reply) -> list[Reply]:
    """Return an answer that is a list of whatever."""
    if not isinstance(reply, list):
        raise TypeError("the store answers a list here")
    return reply


def texts_of(reply: Reply) -> list[str]:
    """Return the texts of a list or of a set."""
    if not isinstance(reply, list | set):
        raise TypeError("the store answers texts here")
    return [text_of(each) for each in reply]


def fields_of(reply: Reply) -> dict[str, str]:
    """Return a hash; empty when there is none."""
    if not isinstance(reply, dict):
        raise TypeError("the store answers names and values here")
    return {name.decode(): text_of(value) for name, value in reply.items()}
