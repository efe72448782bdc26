/* Integer and floating-point work whose result every right machine prints alike. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(void) {
    static uint32_t v[20000];
    uint64_t state = 88172645463325252ull, mix = 0;
    for (int k = 0; k < 20000; k++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        v[k] = (uint32_t)(state >> 16);
    }
    qsort(v, 20000, sizeof v[0], by_value);
    for (int k = 0; k < 20000; k++)
        mix = mix * 6364136223846793005ull + v[k] / (k % 97 + 1) + v[k] % (k % 89 + 1);
    char text[64];
    double d = sqrt(2.0) * 1e10;
    snprintf(text, sizeof text, "%.6f", floor(d));
    /* long double lives in the x87 unit. */
    long double l = 1.0L;
    for (int k = 1; k <= 25; k++)
        l *= k;
    printf("%016llx %s %.0Lf %zu\n", (unsigned long long)mix, text, l, strlen(text));
    return 0;
}
