# What can be run here. "make" alone lists it; .ci/run runs all of it on a bare machine.

SHELL := bash
.DEFAULT_GOAL := help

FUZZTIME ?= 60s
SEEDS    ?= 20

# The one place where the versions of the tools are written down.
STATICCHECK_AT := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI_AT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
STATICCHECK    ?= go run $(STATICCHECK_AT)
GOLANGCI       ?= go run $(GOLANGCI_AT)

# How the command spends its time, for the compiler; "make pgo" measures it anew.
PGO := cmd/peermesh/cpu.pgo

PLATFORMS := linux/arm64 linux/arm darwin/arm64 darwin/amd64 windows/amd64

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## the command, static, as bin/peermesh
	CGO_ENABLED=0 go build -trimpath -pgo=$(PGO) -o bin/ ./cmd/peermesh

.PHONY: demo
demo: ## the main job on this machine, nothing else needed
	go run ./cmd/peermesh demo

.PHONY: test
test: ## the tests
	go test ./...

.PHONY: race
race: ## the tests with the race detector, in another order each time: the daily command
	go test -race -shuffle=on ./...

.PHONY: lint gofmt vet staticcheck golangci
lint: gofmt vet staticcheck golangci ## gofmt, vet, staticcheck and golangci-lint

gofmt:
	@gofmt -l . | awk '{ print "not as gofmt has it: " $$0 } END { exit NR > 0 }'

vet:
	go vet -tags lab ./...

staticcheck:
	$(STATICCHECK) -tags lab ./...

golangci:
	$(GOLANGCI) run ./...

.PHONY: tools
tools: ## the linters into GOBIN, at the versions that lint uses
	go install $(STATICCHECK_AT)
	go install $(GOLANGCI_AT)

.PHONY: cross $(PLATFORMS)
cross: $(PLATFORMS) ## builds for the other platforms

$(PLATFORMS):
	GOOS=$(@D) GOARCH=$(@F) CGO_ENABLED=0 go build ./...

.PHONY: arm
QEMU_ARM ?= qemu-arm
arm: ## the demo with all levels of durability, by the command for linux/arm under qemu-user
	@command -v $(QEMU_ARM) >/dev/null || { echo '$(QEMU_ARM) is missing, which runs programs for linux/arm; on Debian: apt-get install qemu-user'; exit 1; }
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	  GOOS=linux GOARCH=arm CGO_ENABLED=0 go build -trimpath -o "$$dir/peermesh" ./cmd/peermesh; \
	  HOME=$$dir XDG_CONFIG_HOME=$$dir $(QEMU_ARM) "$$dir/peermesh" demo --dir "$$dir/state"

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (60s), one after another
	.ci/fuzz $(FUZZTIME)

.PHONY: lab
lab: ## tests on networks made of namespaces; needs Linux, root, ip and nft
	grep -rlE --include='*_test.go' --exclude-dir=adapters '^//go:build .*\blab\b' . | xargs -n1 dirname | sort -u | \
	  xargs go test -count=1 -timeout 15m -p 1 -tags lab

.PHONY: attack
attack: ## the gateway under attack at full size: 10,000 idle connections, slow and cut-off clients, wrong tokens
	PEERMESH_ATTACK=full go test -count=1 -timeout 15m -v -run 'Idle|Huge|CutOff|ManyLarge|Wrong|Slow|UnderAttack' ./node/gateway

.PHONY: page
CHROMIUM ?= chromium
page: ## the gateway's page in a headless Chromium: counts, keyboard, 400 px; new screenshots for docs
	PEERMESH_CHROMIUM=$(CHROMIUM) PEERMESH_SHOTS=$(CURDIR)/docs go test -count=1 -timeout 5m -v -run PageInABrowser ./node/gateway

.PHONY: seeds
seeds: ## whole nodes on lossy networks, with SEEDS (20) different networks
	@go test -list Seeds ./node/... | grep '^Test' || { echo "no test in ./node/... has Seeds in its name"; exit 1; }
	PEERMESH_SEEDS=$(SEEDS) go test -race -timeout 15m -run Seeds ./node/...

.PHONY: prove
prove: ## children killed -9, power cuts, full disks: the promises, checked from outside, for some 20 minutes; root for some
	go run ./internal/prove all
	cd adapters/sqlbox && SQLBOX_KILLS=100 go test -count=1 -timeout 30m -v -run WhateverIsKilled .

.PHONY: mutants
mutants: ## breaks one rule of the delivery code at a time; the test named for it must fail
	go run ./internal/mutants

.PHONY: model
model: ## the delivery protocol explored exhaustively, in larger worlds than the tests do (some minutes, 2 GB)
	PEERMESH_MODEL=long go test -count=1 -timeout 30m -v -run 'Interleaving|LeftOut' ./internal/ledger

.PHONY: interop
interop: ## the bridge against libzmq itself, from Python and C; apt-get installs what is missing of both (root)
	.ci/libzmq
	go test -count=1 -timeout 15m -v ./node/zmtp/interop

.PHONY: bridge
bridge: ## how fast the bridge is, beside plain libzmq in the same run
	.ci/libzmq
	go test -timeout 30m -run '^$$' -bench Bridge -benchtime 1x ./node/zmtp/interop

.PHONY: adapters
adapters: ## tests of the modules under adapters/, with the race detector
	@for m in adapters/*/go.mod; do (cd $$(dirname $$m) && echo "== $$m" && go vet ./... && go test -race -timeout 15m ./...) || exit 1; done

.PHONY: bench
bench: ## every workload beside its references, as one table; some four minutes, see docs/PERFORMANCE.md
	go run -pgo=$(PGO) ./cmd/peermesh bench all

.PHONY: curve
curve: ## what 1 to 256 peers do to the rates, beside raw QUIC, and what 10^4 to 10^7 messages do that wait on disk; some five minutes and 2 GB
	go run -pgo=$(PGO) ./cmd/peermesh bench curve peers --udp-only
	go run -pgo=$(PGO) ./cmd/peermesh bench curve waiting

.PHONY: pgo
pgo: ## the profile that build and bench give to the compiler, of every workload; some two minutes
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	  go run -trimpath ./cmd/peermesh bench all --rounds 1 --duration 1s --profile "$$dir" && \
	  go tool pprof -proto -output $(PGO) "$$dir"/*-peermesh-*.pprof
