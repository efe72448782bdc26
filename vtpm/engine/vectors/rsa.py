#!/usr/bin/env python3
"""The frozen RSA key generation once more, with Python's hmac and integers and nothing of bulla's.

It prints the vectors in src/rsa/generate.rs and in src/commands/primary.rs: `python3 vectors/rsa.py`.
"""
import hashlib
import hmac
import struct


def sha256(data):
    return hashlib.sha256(data).digest()


class Drbg:
    """HMAC_DRBG with SHA-256 (SP 800-90A, 10.1.2)."""

    def __init__(self, *parts):
        self.k, self.v = bytes(32), b"\1" * 32
        self.update(b"".join(parts))

    def mac(self, data):
        return hmac.new(self.k, data, hashlib.sha256).digest()

    def update(self, data):
        self.k = self.mac(self.v + b"\0" + data)
        self.v = self.mac(self.v)
        if data:
            self.k = self.mac(self.v + b"\1" + data)
            self.v = self.mac(self.v)

    def generate(self, n):
        out = b""
        while len(out) < n:
            self.v = self.mac(self.v)
            out += self.v
        self.update(b"")
        return out[:n]


BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(n):
    if any(n % p == 0 for p in BASES):
        return n in BASES
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for a in BASES:
        x = pow(a, d, n)
        if x in (1, n - 1):
            continue
        if all((x := x * x % n) != n - 1 for _ in range(s - 1)):
            return False
    return True


def prime(random, bits, e):
    half = bits // 2
    while True:
        start = int.from_bytes(random.generate(half // 8), "big") | 3 << (half - 2) | 1
        for p in range(start, start + 2 * 4096, 2):
            if p >> half == 0 and (p - 1) % e and is_prime(p):
                return p


def key(random, bits, e=65537):
    p = prime(random, bits, e)
    while True:
        q = prime(random, bits, e)
        if (p ^ q) >> (bits // 2 - 100):
            return p, q


def octets(number, bits):
    return number.to_bytes(bits // 8, "big")


def public(attributes, policy, symmetric, scheme, unique):
    """TPMT_PUBLIC of an RSA-2048 key with SHA-256 as nameAlg."""
    sized = [struct.pack(">H", len(x)) + x for x in (policy, unique)]
    head = bytes.fromhex("0001000b") + struct.pack(">I", attributes) + sized[0]
    return head + bytes.fromhex(symmetric + scheme) + struct.pack(">HI", 2048, 0) + sized[1]


def main():
    for bits in (1024, 2048, 3072, 4096):
        random = Drbg(b"bulla RSA vector", bits.to_bytes(2, "big"))
        p, q = key(random, bits)
        print(bits, sha256(octets(p * q, bits)).hex(), sha256(octets(p, bits // 2)).hex(), random.generate(8).hex())
    p, q = key(Drbg(b"bulla RSA vector e"), 1024, 4294967291)
    print("another exponent", sha256(octets(p * q, 1024)).hex())
    policy = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
    for name, *template, unique in (
        ("EK", 0x000300B2, policy, "000600800043", "0010", bytes(256)),
        ("AK", 0x00050472, b"", "0010", "0014000b", b""),
    ):
        template_name = b"\0\x0b" + sha256(public(*template, unique))
        random = Drbg(b"\x5a" * 64, b"bulla primary object 1", template_name, b"")
        p, q = key(random, 2048)
        own_name = b"\0\x0b" + sha256(public(*template, octets(p * q, 2048)))
        print(name, sha256(octets(p, 1024)).hex(), own_name.hex(), random.generate(32).hex())


main()
