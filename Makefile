# Holdfast. `make run` starts a site of four boxes on this machine; `make test` checks everything.
SHELL      := /bin/bash
.DEFAULT_GOAL := build

# Without a tag it counts commits, so that boxes can tell which of two releases is the older one.
VERSION    ?= $(shell git describe --tags --dirty 2>/dev/null || { n=$$(git rev-list --count HEAD 2>/dev/null) && echo "0.0.0-$$n-g$$(git describe --always --dirty)"; } || echo dev)
COMMIT     := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS    := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOFLAGS    := -trimpath
export CGO_ENABLED := 0
CHECK      := go tool -modfile=tools/checks.mod
SEEDS      ?= 5000
SEED0      ?= 1
FUZZTIME   ?= 10s
BENCH_CHECK := -rounds 3 -time 3s -loads put-1,put-16,put-64,put-256,batches
TRACE      := testdata/traces/web07.trace.xz
RUN_DIR    ?= .holdfast
PROFILE    ?= generic-arm64

.PHONY: e2e-image e2e-image-short e2e-observe e2e-observe-short nab web bench-matrix bench-baseline bench-check bench-short bench-targets bench-peers bench-peers-short e2e-hal e2e-hal-short e2e-console e2e-console-short bench-layout bench-detect etcd-diff etcd-clients etcd-clients-short etcd-hist etcd-bench mutants mutants-long chaos chaos-short model model-long build arm64 deps run test check unit race sim fuzz bench e2e arm64-smoke image clean help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

web: ## the console's script and style, from firmware/console/web into firmware/console/dist (committed)
	go run -C tools/web . -console ../../firmware/console

build: ## bin/holdfast for this machine
	go build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/holdfast ./firmware

arm64: ## bin/holdfast-linux-arm64: static and stripped, as it is flashed
	GOOS=linux GOARCH=arm64 go build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/holdfast-linux-arm64 ./firmware

deps: ## what a bare Debian 12 machine with Go lacks; safe to repeat
	./tools/deps.sh

run: build ## four boxes on this machine, with a real request trace being counted
	./bin/holdfast dev --boxes 4 --dir $(RUN_DIR) --feed $(TRACE) --feed-rate 500

# More than fifty decoders; with more time each, all of this would not fit.
test: FUZZTIME = 5s
test: deps check unit race sim model mutants chaos-short etcd-diff etcd-clients-short etcd-hist fuzz arm64-smoke e2e-hal-short e2e-console-short e2e-observe-short e2e-image-short bench-short bench-peers-short ## everything that fits in an hour on two cores
	@./tools/summary.sh

check: ## format, vet, staticcheck, dead code, tidy, layers: under a minute when warm
	@test -z "$$($(CHECK) gofumpt -l . | tee /dev/stderr)" || { echo 'not formatted: run "make fmt"'; exit 1; }
	go vet ./...
	GOOS=linux GOARCH=arm64 go vet ./...
	go fix -diff ./...
	$(CHECK) staticcheck ./...
	@dead="$$($(CHECK) deadcode -test ./...)"; test -z "$$dead" || { echo "$$dead"; exit 1; }
	go mod tidy -diff
	go run -C tools/web . -console ../../firmware/console -check
	$(MAKE) --no-print-directory arm64
	go test -count=1 ./tools/archtest

fmt: ## format the tree
	$(CHECK) gofumpt -w .

unit: build ## all tests, the end-to-end ones included
	mkdir -p bin
	set -o pipefail; go test -count=1 -timeout 40m ./... 2>&1 | tee bin/unit.log

race: ## the shells under the race detector (needs gcc)
	CGO_ENABLED=1 go test -race -count=1 -p 1 -timeout 20m ./coord/link ./coord/site ./coord/client ./coord/state ./store ./firmware/native ./firmware/console ./firmware/box ./firmware/etcdapi

e2e: build ## the end-to-end tests alone: a real site, a real trace, kills
	go test -count=1 -v -timeout 20m ./firmware/e2e

sim: ## SEEDS=n SEED0=s: whole sites under faults and liars, from seeds; REPLAY=seed shows one
	@mkdir -p bin && rm -rf bin/simcover && mkdir bin/simcover
	go build -cover -coverpkg=./coord/bft,./tools/sim -o bin/sim ./tools/sim
	@GOCOVERDIR=bin/simcover bin/sim $(if $(REPLAY),-replay $(REPLAY),-seeds $(SEEDS) -seed0 $(SEED0))
	@$(if $(REPLAY),,bin/sim -coverage bin/simcover 2>/dev/null)

model: ## the protocol's rules checked with spin and z3, and mutants of them (needs spin, z3, gcc)
	go run ./tools/model

model-long: ## the same with larger bounds, and more orders of events through real cores: tens of minutes
	go run ./tools/model -long
	HOLDFAST_EXPLORE=5 go test -count=1 -v -timeout 60m -run TestEveryOrderOfEvents ./coord/bft

mutants: ## faults put into the core, each with a seed that is known to notice it first
	go run ./tools/mutants -seeds 15000

mutants-long: ## up to 20,000 seeds each, and the table of docs/mutants.md: an hour
	go run ./tools/mutants -seeds 20000 -fresh -out docs/mutants.md

etcd-diff: build bin/chaos ## SEEDS=n SEED0=s: random requests to a site and to a real etcd, every answer compared
	go build -C tools/etcd -o $(CURDIR)/bin/etcd-diff ./diff
	bin/chaos -beside bin/etcd-diff -endpoint FIRST -n 1000 -seed $(SEED0) -seeds $(if $(filter 5000,$(SEEDS)),4,$(SEEDS))

etcd-clients: build bin/chaos ## etcdctl 3.4 and 3.6, clientv3 and Patroni on a site that loses boxes (root; etcd-client, patroni, postgresql)
	bin/chaos -beside go run -C tools/etcdclients . -endpoints ALL -kill HOOK $(if $(ROWS),-only $(ROWS))

etcd-clients-short: build bin/chaos ## the rows that need no root and no package
	bin/chaos -beside go run -C tools/etcdclients . -endpoints ALL -kill HOOK -only http,conc/mutex,conc/watch

etcd-hist: build bin/chaos ## histories of many clients judged while boxes are killed, stopped and cut off; TIME=30s
	bin/chaos -beside go run -C tools/etcdhist . -endpoints ALL -hook HOOK -time $(or $(TIME),30s)

etcd-bench: build ## a site's figures beside those of etcd with 3 and 5 nodes: the table of docs/bench-etcd.md, 20 minutes
	go build -C tools/etcd -o $(CURDIR)/bin/ ./bench && mv bin/bench bin/etcd-bench
	go build -C tools/etcd -o $(CURDIR)/bin/etcd-node ./node
	bin/etcd-bench -holdfast bin/holdfast -node bin/etcd-node -out docs/bench-etcd.md

e2e-hal: ## the hardware layer on an arm64 kernel in QEMU, as a ROCK 5B and a Raspberry Pi 3 (root or user namespaces)
	./tools/deps.sh e2e-hal
	go build -o bin/e2ehal/ ./tools/e2ehal
	bin/e2ehal/e2ehal

e2e-hal-short: ## one of the machines, below four minutes
	./tools/deps.sh e2e-hal
	go build -o bin/e2ehal/ ./tools/e2ehal
	bin/e2ehal/e2ehal -short

e2e-console: build ## every page of the console in Chromium, and the console under load (FLAGS="-only pages,keyboard", -update, -images)
	./tools/deps.sh e2e-console
	go build -o bin/e2econsole/e2econsole ./tools/e2econsole
	bin/e2econsole/e2econsole $(FLAGS)

e2e-console-short: build ## each page once at each size, below three minutes
	./tools/deps.sh e2e-console
	go build -o bin/e2econsole/e2econsole ./tools/e2econsole
	bin/e2econsole/e2econsole -short

e2e-image: ## machines of QEMU from our image on a bridge (root or user namespaces): boot, join, updates, bad releases, power cuts, a rolling update (FLAGS="-arch arm64 -machines 1")
	./tools/deps.sh e2e-image
	go build -o bin/e2eimage/ ./tools/e2eimage
	bin/e2eimage/e2eimage $(FLAGS)

e2e-image-short: ## one machine beside three processes: a release that panics, an update, a power cut; below seven minutes
	./tools/deps.sh e2e-image
	go build -o bin/e2eimage/ ./tools/e2eimage
	bin/e2eimage/e2eimage -short

e2e-observe: build ## a site under Debian's Prometheus (both histogram modes) and Alertmanager: rules, alarms, receivers that are down, silences
	./tools/deps.sh e2e-observe
	go build -o bin/e2eobserve ./tools/e2eobserve
	bin/e2eobserve

e2e-observe-short: build ## the same with shorter times in the rules, below three minutes
	./tools/deps.sh e2e-observe
	go build -o bin/e2eobserve ./tools/e2eobserve
	bin/e2eobserve -short

fuzz: ## FUZZTIME=10s for each fuzz target
	./tools/fuzz.sh $(FUZZTIME)

bin/chaos: .FORCE
	go build -o bin/chaos ./tools/chaos

.FORCE:

chaos: build bin/chaos ## real boxes under fire, as root for all rows: the table of docs/chaos.md; ROWS=2,13 runs some
	bin/chaos -keep $(if $(ROWS),-only $(ROWS),-out docs/chaos.md)

chaos-short: build bin/chaos ## the rows that need no root, once each: about three minutes
	bin/chaos -short -keep

bench: build ## the figures of docs/bench.md: loads, idle, kills, codec, size (FLAGS="-boxes 1,4,7,10 -delays 0,5,20" for more)
	go run ./tools/bench -out docs/bench.md -json docs/bench/site.json $(FLAGS)
	go run ./tools/bench plot -o docs/bench/site.svg docs/bench/site.json

bench-matrix: build ## sizes and delays: docs/bench/matrix.json, docs/bench-matrix.md
	go run ./tools/bench -parts load -rounds 1 -boxes 1,4,7,10 -delays 0,5,20 -loads put-1,put-64,put-256,batches -out docs/bench-matrix.md -json docs/bench/matrix.json

bench-baseline: build ## what bench-check compares with: docs/bench/baseline.json
	go run ./tools/bench -parts load $(BENCH_CHECK) -json docs/bench/baseline.json

bench-check: build ## fails when a figure is worse than docs/bench/baseline.json beyond noise, at the same speed of the machine
	go run ./tools/bench -parts load $(BENCH_CHECK) -compare docs/bench/baseline.json -check

bench-peers: build ## a site beside etcd, JetStream and CometBFT: docs/bench-peers.md (FLAGS="-only etcd,holdfast -rounds 5")
	go build -C tools/peers -o $(CURDIR)/bin/peers .
	bin/peers -out docs/bench-peers.md -json docs/bench/peers.json $(FLAGS)
	go run ./tools/bench plot -title "Latency against rate, all systems" -o docs/bench/peers.svg docs/bench/peers.json

bench-peers-short: build ## the same programs, half a second of two loads each
	go build -C tools/peers -o $(CURDIR)/bin/peers .
	bin/peers -rounds 1 -time 500ms -warm 200ms -idle 1s -loads put-1,watch-64,batches

bench-targets: ## four lines before and after: docs/targets.md
	go run ./tools/targets -out docs/targets.md

bench-short: build ## the benchmark's programs still work: a second of each load
	go run ./tools/bench -parts load -rounds 1 -time 500ms -warm 200ms -boxes 4 -delays 0,5 -loads put-1,put-16,put-16/4,batches,telemetry-4,get-16,watch-4 -json bin/bench-short.json
	go run ./tools/bench plot -o bin/bench-short.svg bin/bench-short.json
	go run ./tools/targets -rounds 1

bench-layout: ## what layouts, huge pages and prefetching are worth on this machine: docs/layout.md
	go run ./tools/layout

nab: ## the anomaly detector by NAB's rules, cross-fitted: the tables of docs/anomaly.md; DATA=dir WINDOWS=file for other files
	go run ./tools/nab $(if $(DATA),-data $(DATA) -windows $(WINDOWS),-out docs/anomaly.md)

arm64-smoke: arm64 build ## the arm64 binary runs a one-box site under qemu
	./tools/arm64-smoke.sh bin/holdfast-linux-arm64 bin/holdfast

image: arm64 ## bin/holdfast-PROFILE.img and .img.zst, with PROFILE=generic-arm64 (FLAGS="--offline --join-token @token --server host:port")
	go build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/holdfast ./firmware
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) bin/holdfast image build --profile $(PROFILE) --program $(if $(findstring amd64,$(PROFILE)),bin/holdfast,bin/holdfast-linux-arm64) -o bin/holdfast-$(PROFILE).img $(FLAGS)

clean:
	rm -rf bin
