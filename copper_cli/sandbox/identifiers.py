"""Ids that look arbitrary and lead back to their index: no table, whatever the fleet's size."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_ODD_1, _ODD_2 = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
_ODD_3, _ODD_4 = 0xD6E8FEB86659FD93, 0xA24BAED4963EE407


def mix(seed: int, salt: int, index: int = 0, other: int = 0) -> int:
    """A 64-bit number that looks random and depends on all four (splitmix64's last steps)."""
    state = seed * _ODD_1 + salt * _ODD_2 + index * _ODD_3 + other * _ODD_4
    state &= _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def draw(seed: int, salt: int, index: int) -> float:
    """As `mix`, a number from 0 up to and without 1."""
    return mix(seed, salt, index) / 2.0**64


class Scrambler:
    """A permutation of 0 … modulus − 1: index → number → index, by one multiplication each."""

    def __init__(self, modulus: int, seed: int) -> None:
        self.modulus = modulus
        # odd and no multiple of 5, so it can be inverted modulo powers of 2 and of 10
        self._factor = 0xA0761D6478BD642FE7037ED1A0B428DB % modulus
        self._shift = (mix(seed, 1) << 64 | mix(seed, 2)) % modulus
        self._inverse = pow(self._factor, -1, modulus)

    def hide(self, index: int) -> int:
        """The number of an index."""
        return (index * self._factor + self._shift) % self.modulus

    def find(self, number: int) -> int:
        """The index of a number."""
        return (number - self._shift) * self._inverse % self.modulus
