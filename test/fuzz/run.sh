#!/bin/sh
# Builds the fuzz targets (exchange: the whole reactor over loopback) under ASan and UBSan and runs each for SECONDS (default 60) from its corpus.
# usage: test/fuzz/run.sh [SECONDS] [TARGET…]   New inputs and crashes go to $WEFT_FUZZ_DIR (default /tmp/weft-fuzz).
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- http1_request http1_response http1_body http2_frames hpack client_hello proxy_protocol exchange
out=${WEFT_FUZZ_DIR:-/tmp/weft-fuzz}
for target in "$@"; do
  mkdir -p "$out/$target"
  clang++ -std=c++20 -O1 -g -fno-rtti -fno-exceptions -Wall -Wextra -Werror -Wno-unused-parameter -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -Inative/src -Inative/test -Itest/fuzz "test/fuzz/$target.cc" native/test/transcript.cc native/src/core/*.cc native/src/core/http1/*.cc native/src/core/http2/*.cc native/src/core/tables/*.cc native/src/core/tls/*.cc \
    native/src/core/sniff/*.cc -lssl -lcrypto -o "$out/$target.bin"
  "$out/$target.bin" -max_total_time="$seconds" -max_len=4096 -timeout=10 -artifact_prefix="$out/$target/crash-" \
    "$out/$target" "test/fuzz/corpus/$target"
done
