# SPDX-License-Identifier: MIT
#
# One Makefile for everything; run `make help` for the targets and knobs.

O ?= build
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
INCLUDEDIR ?= $(PREFIX)/include
LIBDIR ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec
CC ?= cc
PKG_CONFIG ?= pkg-config
INSTALL ?= install
CFLAGS ?= -O2 -g

VERSION := 0.1.0

ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' $(1) $(2)
endif

# --- Compiler and flags -----------------------------------------------------
#
# What the compiler takes is tried once and kept in $(O)/config.mk.

TRY_CFLAGS := -fstack-protector-strong -fstack-clash-protection -fcf-protection=branch \
	-mbranch-protection=standard -ftrivial-auto-var-init=zero \
	-fzero-call-used-regs=used-gpr -fno-strict-aliasing -fno-strict-overflow \
	-fno-delete-null-pointer-checks -fstrict-flex-arrays=3 \
	-Wformat=2 -Wimplicit-fallthrough=5 -Wcast-function-type

WARN := -Wall -Wextra -Wvla -Wshadow -Wpointer-arith -Wstrict-prototypes \
	-Wmissing-prototypes -Wmissing-declarations -Wundef -Wwrite-strings \
	-Wold-style-definition -Wno-unused-parameter

BASE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -DBLKGATE_VERSION='"$(VERSION)"' -fPIC \
	-fvisibility=hidden -pthread $(WARN)
BASE_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code

# Coroutine stacks are small; a sanitizer needs larger frames (and stacks).
FRAME_CFLAGS := -Wframe-larger-than=1024

ifneq ($(SANITIZE),)
BASE_CFLAGS += -DBLKGATE_INSTRUMENTED='"it is built with -fsanitize"'
BASE_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
BASE_LDFLAGS += -fsanitize=$(SANITIZE)
FRAME_CFLAGS :=
# gcc cannot see that TSAN understands our own fences.
ifneq ($(findstring thread,$(SANITIZE)),)
BASE_CFLAGS += -Wno-tsan
endif
# Where a fuzzer gets to is measured in the server, not in what tests it.
ifneq ($(findstring fuzzer-no-link,$(SANITIZE)),)
TEST_CFLAGS := -fno-sanitize=fuzzer-no-link
endif
else
# How much of it the compiler and the C library know is in config.mk.
FORTIFY_CFLAGS = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$(FORTIFY)
endif
ifeq ($(COVERAGE),1)
BASE_CFLAGS += --coverage -UBLKGATE_INSTRUMENTED
BASE_CFLAGS += -DBLKGATE_INSTRUMENTED='"it is built to measure coverage"'
BASE_LDFLAGS += --coverage
FRAME_CFLAGS :=
endif
ifeq ($(DEVELOPER),1)
BASE_CFLAGS += -Werror
endif
ifeq ($(TSA),1)
BASE_CFLAGS += -Wthread-safety -Werror=thread-safety
endif
ifeq ($(UCONTEXT),1)
BASE_CFLAGS += -DCO_UCONTEXT=1
endif

URING_CFLAGS := $(shell $(PKG_CONFIG) --cflags liburing 2>/dev/null)
URING_LIBS := $(shell $(PKG_CONFIG) --libs liburing 2>/dev/null)
SECCOMP_CFLAGS := $(shell $(PKG_CONFIG) --cflags libseccomp 2>/dev/null)
SECCOMP_LIBS := $(shell $(PKG_CONFIG) --libs libseccomp 2>/dev/null)
GNUTLS_CFLAGS := $(shell $(PKG_CONFIG) --cflags gnutls 2>/dev/null)
GNUTLS_LIBS := $(shell $(PKG_CONFIG) --libs gnutls 2>/dev/null)
SERVER_LIBS := $(URING_LIBS) $(SECCOMP_LIBS) $(GNUTLS_LIBS)
# For `blkgate list` and `probe`, which are not built without it.
LIBNBD_CFLAGS := $(shell $(PKG_CONFIG) --cflags libnbd 2>/dev/null)
LIBNBD_LIBS := $(shell $(PKG_CONFIG) --libs libnbd 2>/dev/null)
CHECK_CFLAGS = $(shell $(PKG_CONFIG) --cflags check)
CHECK_LIBS = $(shell $(PKG_CONFIG) --libs check)

# --- Layers -----------------------------------------------------------------
#
# layer | where it is | what its files may include | how. This is the table:
# tests/lint/layers reads it and holds every dependency file against it.

LAYERS := base drivers blk server client
LAYER_DIR_base := include/base
LAYER_DIR_drivers := drivers
LAYER_DIR_blk := blk
LAYER_DIR_server := server
LAYER_DIR_client := server/client
LAYER_MAY_base := include/base
LAYER_MAY_drivers := include drivers
LAYER_MAY_blk := include blk
LAYER_MAY_server := include blk server
LAYER_MAY_client := include server/client
LAYER_INC_base := -Iinclude
LAYER_INC_drivers := -Iinclude $(URING_CFLAGS)
LAYER_INC_blk := -Iinclude $(URING_CFLAGS)
LAYER_INC_server := -Iinclude -iquote . $(SECCOMP_CFLAGS) $(GNUTLS_CFLAGS)
LAYER_INC_client := -Iinclude -iquote . $(LIBNBD_CFLAGS)

DRIVERS_SRC := $(wildcard drivers/*.c)
BLK_SRC := $(wildcard blk/*.c blk/*.S)
SERVER_SRC := $(filter-out server/main.c,$(wildcard server/*.c server/nbd/*.c))
CLIENT_SRC := $(wildcard server/client/*.c)
FAKE_SRC := tests/lib/unit_fakeblkio.c
SIM_UNIT_SRC := tests/lib/simdev_unit.c
SIM_LIVE_SRC := tests/lib/simdev_live.c
SIM_SRC := $(filter-out $(SIM_UNIT_SRC) $(SIM_LIVE_SRC),$(wildcard tests/lib/simdev*.c))
TESTLIB_SRC := $(filter-out $(FAKE_SRC) tests/lib/simdev%,$(wildcard tests/lib/*.c))
UNIT_SRC := $(wildcard tests/unit/*.c)

obj = $(addprefix $(O)/,$(addsuffix .o,$(basename $(1))))

DRIVERS_OBJ := $(call obj,$(DRIVERS_SRC))
BLK_OBJ := $(call obj,$(BLK_SRC))
SERVER_OBJ := $(call obj,$(SERVER_SRC))
MAIN_OBJ := $(O)/server/main.o
CLIENT_OBJ := $(call obj,$(CLIENT_SRC))
CLIENT_BIN := $(if $(LIBNBD_LIBS),$(O)/blkgate-client)
TESTLIB_OBJ := $(call obj,$(TESTLIB_SRC))
UNIT_BIN := $(addprefix $(O)/,$(basename $(UNIT_SRC)))
MAN := $(wildcard man/*.[1-9])

.PHONY: all check check-unit check-func check-conform check-fault check-lint bench fuzz install uninstall clean help
.DELETE_ON_ERROR:
.SECONDARY:
all: $(O)/blkgate $(O)/libblkio.a $(or $(CLIENT_BIN),no-client)

$(O)/config.mk: Makefile
	@mkdir -p $(@D)
	@{ echo 'CONFIG_CFLAGS :='; \
	for f in $(TRY_CFLAGS); do \
		if echo 'int main(void) { return 0; }' | \
		   $(CC) -Werror $$f -x c -c -o /dev/null - 2>/dev/null; \
		then echo "CONFIG_CFLAGS += $$f"; fi; \
	done; \
	for n in 3 2; do \
		if echo '#include <string.h>' | $(CC) -Werror -O2 -U_FORTIFY_SOURCE \
			-D_FORTIFY_SOURCE=$$n -x c -c -o /dev/null - 2>/dev/null; \
		then echo "FORTIFY := $$n"; break; fi; \
	done; } > $@.tmp && mv $@.tmp $@
ifeq ($(filter clean help uninstall,$(MAKECMDGOALS)),)
ifeq ($(URING_LIBS),)
$(error $(PKG_CONFIG) does not find liburing: apt-get install pkg-config liburing-dev)
endif
ifeq ($(SECCOMP_LIBS),)
$(error $(PKG_CONFIG) does not find libseccomp: apt-get install pkg-config libseccomp-dev)
endif
ifeq ($(GNUTLS_LIBS),)
$(error $(PKG_CONFIG) does not find gnutls: apt-get install pkg-config libgnutls28-dev)
endif
include $(O)/config.mk
endif

ALL_CFLAGS = $(BASE_CFLAGS) $(FORTIFY_CFLAGS) $(CONFIG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(BASE_LDFLAGS) $(LDFLAGS)

# A change of compiler or flags rebuilds everything.
FLAGS_NOW = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
$(O)/flags: FORCE
	@mkdir -p $(@D); echo '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || \
		echo '$(subst ','\'',$(FLAGS_NOW))' > $@
FORCE:

# And a change of where blkgate-client will be, what has to find it.
$(O)/libexecdir: FORCE
	@mkdir -p $(@D); echo '$(LIBEXECDIR)' | cmp -s - $@ || echo '$(LIBEXECDIR)' > $@
$(O)/server/helper.o: $(O)/libexecdir
$(O)/server/helper.o: LAYER_INC_server += -DBLKGATE_LIBEXECDIR='"$(LIBEXECDIR)/blkgate"'

define compile_rule
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(1) -MMD -MP -c -o $@ $<
endef

$(O)/drivers/%.o: drivers/%.c $(O)/flags
	$(call compile_rule,$(LAYER_INC_drivers))
$(O)/blk/%.o: blk/%.c $(O)/flags
	$(call compile_rule,$(LAYER_INC_blk) $(FRAME_CFLAGS))
$(O)/blk/%.o: blk/%.S $(O)/flags
	$(call compile_rule,$(LAYER_INC_blk))
$(O)/server/%.o: server/%.c $(O)/flags
	$(call compile_rule,$(LAYER_INC_server) $(FRAME_CFLAGS))
$(O)/server/client/%.o: server/client/%.c $(O)/flags
	$(call compile_rule,$(LAYER_INC_client))
$(O)/tests/lib/%.o: tests/lib/%.c $(O)/flags
	$(call compile_rule,-Iinclude -iquote . $(TEST_CFLAGS))
$(O)/tests/bench/%.o: tests/bench/%.c $(O)/flags
	$(call compile_rule,-Iinclude -iquote .)
$(O)/tests/fuzz/%.o: tests/fuzz/%.c $(O)/flags
	$(call compile_rule,-Iinclude -iquote . $(URING_CFLAGS) $(TEST_CFLAGS))

$(O)/libblkio.a: $(DRIVERS_OBJ)
$(O)/libblk.a: $(BLK_OBJ)
$(O)/libserver.a: $(SERVER_OBJ)
$(O)/libtest.a: $(TESTLIB_OBJ)
$(O)/%.a:
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(O)/blkgate: $(MAIN_OBJ) $(O)/libserver.a $(O)/libblk.a $(O)/libblkio.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(SERVER_LIBS)

$(O)/blkgate-client: $(CLIENT_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBNBD_LIBS)

no-client:
	$(call say,skip,'blkgate-client: $(PKG_CONFIG) does not find libnbd (libnbd-dev)')
.PHONY: no-client

# --- Tests ------------------------------------------------------------------

# A unit test is tests/unit/LAYER_FILE.c; it links its layer and those below.
UNIT_LIB_base :=
UNIT_LIB_drivers := $(O)/libblkio.a
UNIT_LIB_blk := $(O)/libblk.a $(O)/libblkio.a
UNIT_LIB_server := $(O)/libserver.a $(O)/libblk.a $(O)/libblkio.a
UNIT_LIBS_server := $(SECCOMP_LIBS) $(GNUTLS_LIBS)
# What needs no libnbd.
UNIT_LIB_client := $(O)/server/client/text.o

define unit_rules
$(O)/tests/unit/$(1)_%.o: tests/unit/$(1)_%.c $(O)/flags
	$$(call compile_rule,$$(LAYER_INC_$(1)) -iquote . $$(CHECK_CFLAGS) $$(URING_CFLAGS))
$(O)/tests/unit/$(1)_%: $(O)/tests/unit/$(1)_%.o $(O)/libtest.a $$(UNIT_LIB_$(1))
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) $$(UNIT_LDFLAGS) -o $$@ $$(filter %.o,$$^) \
		$$(filter %.a,$$^) $$(CHECK_LIBS) $$(URING_LIBS) $$(UNIT_LIBS_$(1))
endef
$(foreach l,$(LAYERS),$(eval $(call unit_rules,$(l))))

# LAYER_FILE_fake links a driver library that the test controls, which takes
# the place of libblkio.a; blk_io* counts allocations.
$(filter %_fake,$(UNIT_BIN)): $(call obj,$(FAKE_SRC))
# These link a simulated device in its place.
SIM_BIN := $(addprefix $(O)/tests/unit/,blk_model blk_threads blk_trace)
$(SIM_BIN): $(call obj,$(SIM_SRC) $(SIM_UNIT_SRC))
# And so does a server that the tests in fault/ run.
SIM_SERVER := $(O)/tests/blkgate-sim
$(SIM_SERVER): $(MAIN_OBJ) $(call obj,$(SIM_SRC) $(SIM_LIVE_SRC)) $(O)/libserver.a $(O)/libblk.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(SERVER_LIBS)
sim-server: $(SIM_SERVER)
$(filter $(O)/tests/unit/blk_io%,$(UNIT_BIN)): \
	UNIT_LDFLAGS := $(foreach f,malloc calloc realloc aligned_alloc,-Wl,--wrap=$(f))

# The model check of the block layer for longer than a landing has time: SEEDS
# runs of each kind, from a seed that is never the same.
SEEDS ?= 100000
soak: $(O)/tests/unit/blk_model
	$(Q)CK_FORK=no BLK_MODEL_SEEDS=$(SEEDS) UNIT_SEED=$${UNIT_SEED:-$$(date +%s%N)} $<

# The server with one defect at a time, all of them; a landing tries some.
mutants:
	$(Q)tests/mutants.py

# The coroutines on another machine: a static program, without libcheck.
CROSS_CC ?= aarch64-linux-gnu-gcc
CROSS_RUN ?= qemu-aarch64-static
check-aarch64: $(O)/blk_co.aarch64
	$(Q)$(CROSS_RUN) $<
$(O)/blk_co.aarch64: tests/unit/blk_co.c $(wildcard blk/co*) tests/lib/unit.h
	$(call say,CROSS,$@)
	@mkdir -p $(@D)
	$(Q)$(CROSS_CC) -std=gnu11 -D_GNU_SOURCE -DNO_CHECK -O2 -g $(WARN) -static -Iinclude \
		-iquote . -o $@ $(filter %.c %.S,$^)

# A fuzzer is tests/fuzz/NAME.c; it links the server. NAME.dict goes with it, if
# there is one, and make-corpus writes its seeds. Those of connections link what
# is in lib/, and the simulated device in the place of the driver library; they
# judge the server's log lines, too. TIME is a short word for FUZZ_SECONDS.
FUZZ_CC ?= clang
FUZZ_SECONDS ?= $(or $(TIME),30)
FUZZ_BIN := $(addprefix $(O)/,$(basename $(wildcard tests/fuzz/*.c)))
FUZZ_CONN_BIN := $(filter-out %/access %/config %/tls,$(FUZZ_BIN))
$(FUZZ_CONN_BIN): $(call obj,$(wildcard tests/fuzz/lib/*.c) $(SIM_SRC) $(SIM_UNIT_SRC))
$(FUZZ_CONN_BIN): FUZZ_LDFLAGS := -Wl,--wrap=log_line,--wrap=log_limited,--wrap=getrandom
$(FUZZ_BIN): $(O)/%: $(O)/%.o $(UNIT_LIB_server)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(FUZZ_LDFLAGS) -fsanitize=fuzzer -o $@ \
		$(filter %.o,$^) $(filter %.a,$^) $(SERVER_LIBS)
fuzz:
	$(Q)$(MAKE) CC=$(FUZZ_CC) SANITIZE=fuzzer-no-link,address,undefined O=$(O)/fuzz fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)set -e; for f in $(notdir $(FUZZ_BIN)); do \
		tests/fuzz/make-corpus $$f $(O)/corpus/$$f; \
		setarch -R $(O)/tests/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=60 \
			-max_len=4096 -artifact_prefix=$(O)/$$f- -print_final_stats=1 \
			-dict=tests/fuzz/$$f.dict $(O)/corpus/$$f; \
	done

unit-tests: $(UNIT_BIN)
check: check-lint check-unit check-func check-conform check-fault
check-unit: unit-tests
	$(Q)sh tests/runner.sh -o $(O) unit
check-func: all bench-tools
	$(Q)sh tests/runner.sh -o $(O) func func@tls regress regress@tls
check-conform: all
	$(Q)sh tests/runner.sh -o $(O) conform
check-fault: sim-server
	$(Q)sh tests/runner.sh -o $(O) fault fault@tls
check-lint: all unit-tests
	$(Q)sh tests/runner.sh -o $(O) lint

BENCH_BIN := $(addprefix $(O)/,$(basename $(wildcard tests/bench/*.c)))
# Without the build's own flags: what is preloaded comes before a sanitizer.
WALLCLOCK := $(O)/tests/lib/preload/wallclock.so
$(WALLCLOCK): tests/lib/preload/wallclock.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -D_GNU_SOURCE -O2 -Wall -Werror -fPIC -shared -o $@ $<
bench-tools: $(BENCH_BIN) $(WALLCLOCK)
$(O)/tests/bench/blkbench: $(O)/libblk.a $(O)/libblkio.a
$(BENCH_BIN): $(O)/%: $(O)/%.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(URING_LIBS) $(GNUTLS_LIBS)
bench: all bench-tools
	$(Q)sh tests/bench/bench.sh -o $(O)
	$(Q)sh tests/bench/bench.sh -o $(O) -t -f read
	$(Q)$(O)/tests/bench/blkbench

# Prints the layering table for tests/lint/layers.
print-layers:
	@$(foreach l,$(LAYERS),echo '$(LAYER_DIR_$(l)): $(LAYER_MAY_$(l))';)
.PHONY: unit-tests sim-server soak mutants check-aarch64 fuzz-run bench-tools print-layers FORCE

# --- Installation -----------------------------------------------------------

install: all
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 0755 $(O)/blkgate $(DESTDIR)$(BINDIR)/blkgate
ifneq ($(CLIENT_BIN),)
	$(INSTALL) -d $(DESTDIR)$(LIBEXECDIR)/blkgate
	$(INSTALL) -m 0755 $(CLIENT_BIN) $(DESTDIR)$(LIBEXECDIR)/blkgate/blkgate-client
endif
	$(INSTALL) -m 0644 include/blkio.h $(DESTDIR)$(INCLUDEDIR)/blkio.h
	$(INSTALL) -m 0644 $(O)/libblkio.a $(DESTDIR)$(LIBDIR)/libblkio.a
	for m in $(MAN); do \
		d=$(DESTDIR)$(MANDIR)/man$${m##*.}; \
		$(INSTALL) -d $$d && $(INSTALL) -m 0644 $$m $$d/ || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/blkgate $(DESTDIR)$(INCLUDEDIR)/blkio.h \
		$(DESTDIR)$(LIBDIR)/libblkio.a $(DESTDIR)$(LIBEXECDIR)/blkgate/blkgate-client
	for m in $(MAN); do rm -f $(DESTDIR)$(MANDIR)/man$${m##*.}/$${m##*/}; done

clean:
	rm -rf $(O)

help:
	@sed -n 's/^## //p' Makefile

## Targets: all check check-unit check-func check-conform check-fault check-lint
##          check-aarch64 fuzz soak mutants bench install uninstall clean
## Knobs:   O=DIR            build directory (build)
##          V=1              show commands
##          DEVELOPER=1      warnings are errors
##          SANITIZE=LIST    address,undefined or thread
##          TSA=1 CC=clang   thread-safety analysis: who may yield
##          UCONTEXT=1       coroutines on ucontext instead of our own switch
##          COVERAGE=1       gcov
##          FUZZ_SECONDS=N   for each fuzzer (30); so does TIME=N
##          SEEDS=N          of the model check in soak, of each kind (100000)
##          DESTDIR= PREFIX= for install and uninstall
## blkgate-client (blkgate list and probe) is built where pkg-config finds libnbd.

-include $(shell find $(O) -name '*.d' 2>/dev/null)
