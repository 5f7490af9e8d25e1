# ticketd. `make` only builds; `make run` and `make check` install what is missing first.
#
# BUILD=DIR builds elsewhere, SANITIZE=address,undefined or thread with a sanitizer, CI=1 with warnings as errors.

VERSION  = 1.0.0
BUILD    ?= build
CC       ?= cc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
PYTHON   ?= /usr/bin/python3
PORT     ?= 8080
export PORT

PACKAGES = fcgi libcjson libcrypto libpq sqlite3 zlib
WARN     = -Wall -Wextra -Wshadow -Wconversion $(if $(CI),-Werror)
HARDEN   = -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
SAN      = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
ALL_CFLAGS  = -std=gnu11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -Ihandler -pthread $(WARN) $(HARDEN) $(SAN) \
              $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -pthread -Wl,-z,relro,-z,now $(SAN) $(LDFLAGS)
LIBS        = $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

SOURCES = $(wildcard handler/*.c handler/*/*.c)
OBJECTS = $(patsubst handler/%.c,$(BUILD)/%.o,$(SOURCES)) $(BUILD)/sql.o
MODULES = $(filter-out $(BUILD)/main.o,$(OBJECTS))
UNITS   = $(patsubst tests/unit/%.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
FUZZERS = $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz_%,$(wildcard tests/fuzz/*.c))
# sql/ with its placeholders filled in.
SQL      = $(patsubst sql/%,$(BUILD)/sql/%,$(sort $(wildcard sql/*.sql sql/*/*.sql)))
EMBEDDED = $(filter-out $(BUILD)/sql/optional/% $(BUILD)/sql/citus/%,$(SQL))

.PHONY: all run check patroni-check unit screenshot docs bench scale torture coverage fuzz fuzzers dist deb deb-check install clean
all: $(BUILD)/ticketd $(SQL)

run:
	@tools/install run
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd
	@exec tools/run

check: $(BUILD)/browser/node_modules
	@tools/install check
	@exec tests/check

unit: $(UNITS)

# What the browser's tests take from npm; without it they say that it is missing.
$(BUILD)/browser/node_modules: tests/browser/package.json tests/browser/package-lock.json
	@tools/install check
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null && touch node_modules || rm -rf node_modules

# The picture of the dashboard in the README, of sample data.
screenshot: $(BUILD)/browser/node_modules
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd
	@SCREENSHOT=dashboard/screenshot.png $(PYTHON) -m pytest -q -p no:cacheprovider tests/e2e/test_dashboard.py -k screenshot

# What the database says of itself, written into sql/README.md; `make check` looks whether it is there.
docs:
	@tools/install check
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd
	@exec env TICKETD="$(abspath $(BUILD))/ticketd" $(PYTHON) tools/dictionary

# Lines and branches of handler/ that the tests reach.
coverage:
	@tools/install coverage
	@exec tools/coverage

# FUZZ_S seconds for each target; build/fuzz/corpus grows from run to run.
fuzz:
	@tools/install fuzz
	@$(MAKE) --no-print-directory -j$(shell nproc) BUILD=build/fuzz CC=clang SANITIZE=fuzzer,address,undefined fuzzers
	@exec $(PYTHON) tests/fuzz/fuzz.py build/fuzz $(FUZZ_S)

fuzzers: $(FUZZERS)

# Half an hour or so; BENCH_S=2 BENCH_ROUNDS=1 for a look. Results go to build/bench/.
bench:
	@tools/install bench
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd $(BUILD)/bench/empty
	@exec env TICKETD="$(abspath $(BUILD))/ticketd" BENCH_DIR="$(abspath $(BUILD))/bench" $(PYTHON) tests/bench/bench.py

# What many hosts and nodes would do: computed and simulated, from what one host was measured to do.
scale:
	@exec $(PYTHON) tests/bench/scale.py

# ROUNDS=130 are about ten minutes.
torture:
	@tools/install check
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd $(BUILD)/faults.so
	@exec $(PYTHON) tests/torture/torture.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

$(BUILD)/ticketd: $(BUILD)/libraries $(OBJECTS)
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $(OBJECTS) $(LIBS)

$(BUILD)/test_%: tests/unit/test_%.c $(wildcard tests/unit/*.h) $(MODULES)
	@echo '  CC $@'
	@$(CC) $(ALL_CFLAGS) -DTEST_DATA='"$(CURDIR)/tests/data"' $(ALL_LDFLAGS) -o $@ $(filter-out %.h,$^) $(LIBS) -lcmocka

$(BUILD)/fuzz_%: tests/fuzz/%.c tests/fuzz/fuzz.h $(MODULES)
	@echo '  CC $@'
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter-out %.h,$^) $(LIBS)

$(BUILD)/bench/%: tests/bench/%.c
	@echo '  CC $@'
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -o $@ $<

$(BUILD)/faults.so: tests/torture/faults.c | $(BUILD)
	@echo '  CC $@'
	@$(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(WARN) -shared -fPIC -o $@ $< -ldl

$(BUILD)/%.o: handler/%.c Makefile | $(BUILD)/libraries
	@echo '  CC $<'
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: $(BUILD)/%.c
	@echo '  CC $<'
	@$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/sql/%.sql: sql/%.sql tools/expand handler/event/fields.def
	@mkdir -p $(@D)
	@tools/expand $< > $@.new
	@mv $@.new $@

# The folders tell that a file is gone.
$(BUILD)/sql.c: tools/embed $(EMBEDDED) $(wildcard sql/*/) | $(BUILD)
	@tools/embed $(EMBEDDED) > $@.new
	@mv $@.new $@

$(BUILD)/ticketd.8: tools/documents handler/ticketd.8 $(wildcard handler/*/*.def) | $(BUILD)
	@tools/documents page > $@

$(BUILD)/ticketd.env: tools/documents contrib/systemd/ticketd.env handler/base/conf.def | $(BUILD)
	@tools/documents environment > $@

$(BUILD):
	@mkdir -p $@

# The libraries and their headers are here, or what is missing is said; nothing is installed.
$(BUILD)/libraries: Makefile | $(BUILD)
	@tools/install missing build
	@pkg-config --exists --print-errors $(PACKAGES)
	@touch $@

# The sources of the last commit, the same bytes wherever they are packed: build/ticketd-VERSION.tar.gz
DIST = $(BUILD)/ticketd-$(VERSION).tar
dist: | $(BUILD)
	@git diff --quiet HEAD || echo 'What is not committed is not in it.' >&2
	@git -c tar.umask=0022 archive --format=tar --prefix=ticketd-$(VERSION)/ -o $(DIST) HEAD
	@gzip -9nf $(DIST)
	@echo $(DIST).gz

# The Debian package, from a copy of the tree: build/package/ticketd_VERSION_ARCHITECTURE.deb
deb:
	@tools/install deb
	@exec tools/deb

# Two nodes of Patroni and an etcd under load: mostly waiting, and a busy machine elects nobody in time.
patroni-check:
	@tools/install check
	@$(MAKE) --no-print-directory -j$(shell nproc) $(BUILD)/ticketd
	@exec $(PYTHON) -m pytest -q -rs -p no:cacheprovider tests/e2e/test_patroni.py

# The package built twice; then, in a Debian of its own, which only root can: the package installed, upgraded, removed and
# purged, and the documents' commands run as they are written.
deb-check:
	@tools/install deb-check
	@tests/reproducible
	@exec tests/package

# The files lead to /usr/local and /etc, and what is installed of them to where that is. So does the program: it is linked
# again, with the settings file that it reads, which build/ticketd does not. What administrators edit is below /etc, where
# Debian's nginx and Apache look for it, and is not written over.
SHARE  = $(DESTDIR)$(PREFIX)/share
ETC    = $(DESTDIR)$(SYSCONFDIR)
EDITED = { test -e $(ETC)/$(2) || $(PLACES) $(1) | install -D -m 644 /dev/stdin $(ETC)/$(2); }
PLACES = sed 's|/usr/local/s|$(PREFIX)/s|g; s|/etc/ticketd/|$(SYSCONFDIR)/ticketd/|g'

install: $(BUILD)/ticketd $(BUILD)/ticketd.8 $(BUILD)/ticketd.env $(SQL)
	install -D -m 755 $(BUILD)/ticketd $(DESTDIR)$(PREFIX)/sbin/ticketd
	$(CC) $(ALL_CFLAGS) -DSETTINGS_FILE='"$(SYSCONFDIR)/ticketd/ticketd.env"' $(ALL_LDFLAGS) -o $(DESTDIR)$(PREFIX)/sbin/ticketd \
	    handler/base/settings_file.c $(filter-out $(BUILD)/base/settings_file.o,$(OBJECTS)) $(LIBS)
	install -D -m 644 -t $(SHARE)/ticketd/apache contrib/apache/*.asis
	install -D -m 644 -t $(SHARE)/ticketd/sql sql/README.md $(BUILD)/sql/citus/citus.sql
	install -D -m 644 -t $(SHARE)/ticketd/sql/optional $(filter $(BUILD)/sql/optional/%,$(SQL))
	install -D -m 644 -t $(SHARE)/doc/ticketd/docs docs/*
	install -D -m 644 -t $(SHARE)/doc/ticketd README.md SECURITY.md CHANGELOG.md
	install -D -m 644 -t $(SHARE)/ticketd/monitoring contrib/monitoring/*.*
	install -D -m 644 -t $(SHARE)/ticketd/monitoring/grafana contrib/monitoring/grafana/*
	$(PLACES) contrib/monitoring/grafana/dashboards.yml | install -D -m 644 /dev/stdin $(SHARE)/ticketd/monitoring/grafana/dashboards.yml
	install -D -m 644 -t $(SHARE)/ticketd/monitoring/metabase contrib/monitoring/metabase/*
	install -D -m 644 -t $(SHARE)/ticketd/dashboard dashboard/*.*
	install -D -m 644 -t $(SHARE)/ticketd/dashboard/uplot dashboard/uplot/*
	install -D -m 644 -t $(SHARE)/ticketd/patroni contrib/patroni/*
	$(PLACES) $(BUILD)/ticketd.8 | install -D -m 644 /dev/stdin $(SHARE)/man/man8/ticketd.8
	install -D -m 644 -t $(SHARE)/bash-completion/completions contrib/completion/ticketd
	$(foreach unit,$(filter-out %.env %.sysusers,$(wildcard contrib/systemd/*)),\
	    $(PLACES) $(unit) | install -D -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/$(notdir $(unit)) &&) true
	install -D -m 644 contrib/systemd/ticketd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/ticketd.conf
	test -d $(ETC)/ticketd || install -d -m 750 $(ETC)/ticketd
	$(call EDITED,$(BUILD)/ticketd.env,ticketd/ticketd.env)
	$(call EDITED,nginx/ticketd.conf,nginx/snippets/ticketd.conf)
	$(call EDITED,nginx/upstream.conf,nginx/conf.d/ticketd.conf)
	$(foreach file,$(wildcard contrib/apache/*.conf),$(call EDITED,$(file),apache2/conf-available/$(notdir $(file))) &&) true

clean:
	rm -rf build

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)
