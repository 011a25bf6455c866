# The commands that people type; `make` alone lists them. What takes more than a line stands in
# scripts/.

CARGO ?= cargo
target := $(or $(CARGO_TARGET_DIR),target)
# What `make run` starts.
demonstrated := proxy_server control_server demo_backend gen_k8s_endpoints
simulators := gen_k8s_endpoints sim_backend_register_batch dummy_proxy demo_backend

.DEFAULT_GOAL := help
.PHONY: help build run test audit clean

help:
	@echo "make build   build for use; link proxy/bin/proxy_server, control/bin/control_server,"
	@echo "             agent/bin/gpu_agent and the simulators in control/scripts/"
	@echo "make run     build, then run everything on this machine until Ctrl-C"
	@echo "             (CONTROL_PORT, PROXY_PORT and BACKEND_PORT choose other ports)"
	@echo "make bench   measure the data path beside haproxy, nginx and envoy (about 20 minutes)"
	@echo "make bench-control   measure the control plane with 20,000 backends (some minutes)"
	@echo "make sched   simulate how each algorithm spreads work over GPUs (a few minutes; TRACE=FILE)"
	@echo "make sched-proof  the same with the real programs and models of GPUs on real sockets (10 minutes)"
	@echo "make soak    run the long tests: millions of sessions, fuzzed inputs, more seeds"
	@echo "             (MINUTES=10); make figures runs the same scenarios through haproxy and nginx"
	@echo "make test    check words, formatting and lints, and run all tests, browser tests included"
	@echo "make audit   check licences and sources of all dependencies, if cargo-deny is installed"
	@echo "make clean   remove the build"

build:
	@scripts/need.sh $(CARGO) cc
	@scripts/console_assets.sh
	$(CARGO) build --release --workspace --bins --locked
	@mkdir -p proxy/bin control/bin agent/bin
	@ln -srfn $(target)/release/proxy_server proxy/bin/proxy_server
	@ln -srfn $(target)/release/control_server control/bin/control_server
	@ln -srfn $(target)/release/gpu_agent agent/bin/gpu_agent
	@for name in $(simulators); do ln -srfn $(target)/release/$$name control/scripts/$$name; done

run:
	@scripts/need.sh $(CARGO) cc curl
	@scripts/console_assets.sh
	@echo "building the four programs of the demonstration: one to three minutes the first time, on two cores"
	@$(CARGO) build --profile demo --locked $(addprefix --bin ,$(demonstrated))
	@BIN=$(target)/demo scripts/run.sh

test:
	@CARGO=$(CARGO) scripts/test.sh

audit:
	@CARGO=$(CARGO) scripts/audit.sh

# MINUTES is shared out: half to the scenarios, half to mutated inputs of every format; then as long
# again a console looks on at 3,000 backends, whose memory must not grow.
.PHONY: soak figures
MINUTES ?= 10
soak:
	@scripts/need.sh $(CARGO) cc
	@scripts/need_browser.sh
	$(CARGO) build --release --workspace --bins --locked
	$(CARGO) build --workspace --bins --locked
	$(target)/release/soak --minutes $$(( ($(MINUTES) + 1) / 2 ))
	$(target)/release/mutate --minutes $$(awk 'BEGIN { print $(MINUTES) / 2 }')
	SIM_SEEDS=$$(( 2000 * $(MINUTES) )) $(CARGO) test --release --locked -p control simulation
	EXAMPLES=$$(( 50 * $(MINUTES) )) scripts/schemathesis.sh
	SOAK_SECONDS=$$(( 60 * $(MINUTES) )) e2e/browser/run.sh soak.mjs

# The same short scenarios through every proxy that is installed, as a table.
figures:
	@scripts/need.sh $(CARGO) cc
	$(CARGO) build --release --workspace --bins --locked
	$(target)/release/soak

clean:
	$(CARGO) clean
	rm -rf proxy/bin control/bin agent/bin $(addprefix control/scripts/,$(simulators))

# Measures beside haproxy, nginx, envoy and no proxy; needs a quiet machine and some 25 minutes.
# ROUNDS, SECONDS and ONLY=CELL,... narrow it down; bench/install-peers.sh brings the others.
.PHONY: bench
bench:
	@scripts/need.sh $(CARGO) cc setpriv taskset chrt
	$(CARGO) build --release --locked -p proxy-server -p bench
	$(target)/release/bench compare --proxy $(target)/release/proxy_server \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only $(ONLY))

# Registers 20,000 backends with both programs as they are: about a minute a round. Set ROUNDS,
# BACKENDS or CLIENTS=N,N to change this.
.PHONY: bench-control
bench-control:
	@scripts/need.sh $(CARGO) cc
	$(CARGO) build --release --locked -p proxy-server -p control -p bench
	WICKETGATE_BIN_DIR=$(target)/release $(target)/release/bench_control $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(BACKENDS),--backends $(BACKENDS)) $(if $(CLIENTS),--clients $(CLIENTS))

# Simulates scheduling, and writes page and charts. The trace is no part of the repository.
TRACE ?= ../shared/data/AzureLLMInferenceTrace_code.csv
.PHONY: sched
sched:
	@scripts/need.sh $(CARGO) cc
	$(CARGO) build --release --locked -p bench --bin sched_sim
	@test -f "$(TRACE)" || echo "no trace at $(TRACE): only what needs no file is simulated"
	$(target)/release/sched_sim --scenario all $(if $(wildcard $(TRACE)),--trace $(TRACE)) \
		--seeds $(or $(SEEDS),16) --write bench/results

# The same on real sockets: both planes as they are, before model servers. ROUNDS, JOBS and
# ACTS=NAME,... narrow it down.
.PHONY: sched-proof
sched-proof:
	@scripts/need.sh $(CARGO) cc setpriv
	$(CARGO) build --release --locked -p proxy-server -p control -p bench
	$(target)/release/sched_proof --write bench/results $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(JOBS),--jobs $(JOBS)) $(if $(ACTS),--acts $(ACTS))
