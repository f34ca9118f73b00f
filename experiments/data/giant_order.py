"""A shuffled order of so many examples that writing it down would fill the memory.

A keyed bijection of the numbers below a power of two, a Feistel network, is walked until it hits a
number that is an example's (cycle walking). Any piece of the order costs as much as its length.
Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 8


def shuffled(positions: np.ndarray, num_examples: int, key: int) -> np.ndarray:
    """Example numbers at some positions of an order of all examples.

    Args:
        positions: Any shape, int64 in [0, num_examples).
        num_examples: 1 .. 2**62.
        key: 64 bits; each key has its own order.

    Returns:
        The same shape, int64: over all positions each example number once.
    """
    bits = max(2, (num_examples - 1).bit_length())
    numbers = _permuted(positions.astype(np.uint64), bits, key)
    while (outside := numbers >= num_examples).any():
        numbers[outside] = _permuted(numbers[outside], bits, key)
    return numbers.astype(np.int64)


def _permuted(numbers: np.ndarray, bits: int, key: int) -> np.ndarray:
    """A bijection of [0, 2**bits): the halves change places in each round, and their widths."""
    low_bits, high_bits = bits // 2, bits - bits // 2
    low = numbers & _mask(low_bits)
    high = numbers >> np.uint64(low_bits)
    for number in range(_ROUNDS):
        noise = _mixed(low ^ np.uint64(_round_key(key, number)))
        high, low = low, (high ^ noise) & _mask(high_bits)
        low_bits, high_bits = high_bits, low_bits
    return high << np.uint64(low_bits) | low


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _round_key(key: int, number: int) -> int:
    return (key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the input reaches every bit of the output.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
