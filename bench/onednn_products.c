/* Products by oneDNN alone, one thread, as another program than ours would time them:
 *
 *   cc -O2 bench/onednn_products.c -ldnnl -o onednn_products
 *   OMP_NUM_THREADS=1 ./onednn_products BEGIN WINDOW nt:512:512:512 ...     nt, nn, tn: which of a and b is transposed
 *
 * The k-th shape is timed from BEGIN + k * WINDOW (seconds of the epoch) for as long as WINDOW, less a tenth: processes that
 * are given the same BEGIN load all cores with the same product at once. Operands are taken in turn out of 128 MiB, so that
 * no cache holds them. Prints the median seconds of a product for each shape.
 */
#define _GNU_SOURCE
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POOL = 128 << 20, MOST = 1 << 20 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int count, char **words) {
  static double samples[MOST];
  float *operands = malloc(POOL), *results = malloc(POOL);
  if (count < 4 || !operands || !results)
    return 1;
  for (size_t i = 0; i < POOL / sizeof(float); ++i)
    operands[i] = 0.01f, results[i] = 0;
  double begin = atof(words[1]), window = atof(words[2]);
  for (int index = 3; index < count; ++index) {
    char layout[3];
    long m, n, k;
    if (sscanf(words[index], "%2[nt]:%ld:%ld:%ld", layout, &m, &n, &k) != 4)
      return 1;
    size_t ofAB = m * k + n * k, ofC = m * n, slots = POOL / sizeof(float) / (ofAB > ofC ? ofAB : ofC), taken = 0;
    if (slots == 0)
      return 1;
    double start = begin + (index - 3) * window;
    while (now() < start)
      ;
    for (size_t slot = 0; (now() < start + 0.9 * window || taken < 3) && taken < MOST; ++slot) {
      const float *a = operands + slot % slots * ofAB, *b = a + m * k;
      double from = now();
      dnnl_sgemm(layout[0] == 't' ? 'T' : 'N', layout[1] == 't' ? 'T' : 'N', m, n, k, 1, a, layout[0] == 't' ? m : k, b,
                 layout[1] == 't' ? k : n, 0, results + slot % slots * ofC, n);
      samples[taken++] = now() - from;
    }
    qsort(samples, taken, sizeof *samples, ascending);
    printf("%s %.9g\n", words[index], samples[taken / 2]);
  }
  return 0;
}
