"""Peers that run in an environment of their own, since what they pin does not fit this package's."""
