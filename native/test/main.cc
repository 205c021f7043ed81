// Runs every test, or those whose name contains the first argument.
#include <cstring>

#include "check.h"

int main(int argc, char** argv) {
  int passed = 0, failed = 0, skipped = 0;
  for (const weft::test::Case& test : weft::test::cases()) {
    if (argc > 1 && strstr(test.name, argv[1]) == nullptr) continue;
    weft::test::failures = 0;
    weft::test::skipped = nullptr;
    test.body();
    if (weft::test::skipped != nullptr) {
      skipped++;
      printf("skipped: %s: %s\n", test.name, weft::test::skipped);
    } else if (weft::test::failures == 0) {
      passed++;
    } else {
      failed++;
      fprintf(stderr, "FAILED: %s\n", test.name);
    }
  }
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed == 0 ? 0 : 1;
}
