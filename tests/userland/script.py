# CPU-heavy and exact: big integers, floats, dictionaries, sorting; one digest of it all.
import hashlib
import math

h = hashlib.sha256()

# 1,500 digits of pi by Machin's formula in big integers.
def arctan_inverse(x, one):
    total = term = one // x
    n, sign = 3, -1
    while term:
        term //= x * x
        total += sign * (term // n)
        sign, n = -sign, n + 2
    return total

one = 10**1510
pi = 4 * (4 * arctan_inverse(5, one) - arctan_inverse(239, one))
h.update(str(pi // 10**10).encode())

# Floats: exactly rounded operations only, so that every right machine agrees.
x, total = 0.5, 0.0
for n in range(50000):
    x = 3.9 * x * (1.0 - x)
    total += math.sqrt(x) / (n + 1.0)
h.update((x.hex() + total.hex() + repr(total)).encode())

# A sieve, a dictionary, a sort.
sieve = bytearray([1]) * 60000
for n in range(2, 250):
    if sieve[n]:
        sieve[n * n :: n] = bytes(len(range(n * n, 60000, n)))
primes = [n for n in range(2, 60000) if sieve[n]]
counts = {}
for a, b in zip(primes, primes[1:]):
    counts[b - a] = counts.get(b - a, 0) + 1
h.update(repr(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))).encode())
print(h.hexdigest())
