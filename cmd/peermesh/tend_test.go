package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/spool"
)

// keptDir is a state directory in which a push has left so many messages of 100 kB.
func keptDir(t *testing.T, p *inProcess, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	args := []string{"push", "jobs", "--dir", dir, "--detach", "--count", fmt.Sprint(n), "--size", "100000"}
	if code, stderr := p.run(t.Context(), nil, io.Discard, args...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	return dir
}

// damage flips a bit of message n, wherever it is below dir.
func damage(t *testing.T, dir string, n uint64) {
	t.Helper()
	body := (&bodies{}).append(nil, n, 100000)
	files, err := filepath.Glob(filepath.Join(dir, "spool", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, body); at >= 0 {
			b[at+500] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("message %d is nowhere in %q", n, files)
}

func TestVerifyNamesExactlyWhatIsDamagedAndEndsWith6(t *testing.T) {
	p := newInProcess(t)
	dir := keptDir(t, p, 9)
	var out bytes.Buffer
	if code, stderr := p.run(t.Context(), nil, &out, "spool", "verify", "--dir", dir); code != 0 {
		t.Fatalf("before the damage: exit %d: %s", code, stderr)
	}
	damage(t, dir, 4)
	out.Reset()
	code, stderr := p.run(t.Context(), nil, &out, "spool", "verify", "--dir", dir, "--json")
	var found, damaged, readable uint64
	for dec := json.NewDecoder(&out); ; {
		var e struct {
			Event                      string
			From, To, Records, Damaged uint64
		}
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch e.Event {
		case "damage":
			if e.From <= 5 && 5 <= e.To { // blocks hold several
				found += e.To - e.From + 1
			}
		case "verified":
			damaged, readable = e.Damaged, e.Records
		}
	}
	if code != exitLoss || found == 0 || found != damaged || readable+damaged != 9 || readable == 0 {
		t.Errorf("exit %d, %d in ranges around seq 5, %d damaged in all, %d readable: %s", code, found, damaged, readable, stderr)
	}
	// What can be read can be saved.
	out.Reset()
	code, _ = p.run(t.Context(), nil, &out, "spool", "export", "jobs", "--dir", dir)
	if got := uint64(strings.Count(out.String(), "\n")); code != exitLoss || got != readable {
		t.Errorf("export: exit %d, %d objects, want %d and %d", code, got, exitLoss, readable)
	}
}

func TestForwardTellsOfALossAndEndsWith6(t *testing.T) {
	p := newInProcess(t)
	dir := keptDir(t, p, 9)
	damage(t, dir, 4)
	ctx, leave := context.WithCancel(t.Context())
	addr, _ := p.start(ctx, t, "pull", "jobs")
	var out bytes.Buffer
	code, stderr := p.run(t.Context(), nil, &out, "forward", "--dir", dir, "--peer", addr, "--timeout", "20s", "--json")
	leave()
	p.wg.Wait()
	if code != exitLoss || strings.Count(out.String(), `"event":"loss"`) == 0 {
		t.Errorf("exit %d, want %d: %s\n%s", code, exitLoss, stderr, out.String())
	}
}

func TestOrdersAreHeldToTheRulesByWhoeverCarriesThemOut(t *testing.T) {
	p := newInProcess(t)
	s, err := node.OpenSpool(keptDir(t, p, 1), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, order := range map[string]string{
		"nothing":                "",
		"no end of line":         `{"op":"ls"}`,
		"no JSON":                "ls\n",
		"an unknown order":       `{"op":"shred"}` + "\n",
		"a queue that is not":    `{"op":"peek","namespace":"default","queue":"none"}` + "\n",
		"a name that is none":    `{"op":"import","namespace":"default","queue":"a\u0000b"}` + "\n",
		"a line without an end":  strings.Repeat("x", 2*maxOrder),
		"letters of nobody":      `{"op":"replay","dead":true,"namespace":"default","queue":"jobs"}` + "\n",
		"an import of no object": `{"op":"import","namespace":"default","queue":"jobs"}` + "\n[]\n",
	} {
		if err := obeyTending(t.Context(), strings.NewReader(order), s, func(line) error { return nil }); err == nil {
			t.Errorf("%s: carried out", name)
		}
	}
	if got := s.Queues(); len(got) != 1 || got[0].Info.Unsettled != 1 {
		t.Errorf("queues afterwards: %+v", got)
	}
}

func TestAnswerOfANodeThatEndsInTheMiddleIsAnError(t *testing.T) {
	for text, want := range map[string]int{
		`{"stat":{}}` + "\n": exitOK,
		`{"stat":{}}` + "\n" + `{"error":{"error":"gone","exit":5}}` + "\n": exitStorage,
		`{"stat":`: exitFailed,
	} {
		err := readTending(strings.NewReader(text), func(line) error { return nil })
		if exitCode(err) != want {
			t.Errorf("%q: %v, exit %d, want %d", text, err, exitCode(err), want)
		}
	}
}

func TestADirectoryInUseByWhoCannotBeAskedIsStorage(t *testing.T) {
	p := newInProcess(t)
	dir := keptDir(t, p, 1)
	s, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	code, stderr := p.run(t.Context(), nil, io.Discard, "spool", "ls", "--dir", dir)
	if code != exitStorage || !strings.Contains(stderr, "in use by a process that cannot be asked") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// damageTable makes the second table of Badger's unreadable.
func damageTable(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "spool", "*.sst"))
	if err != nil || len(tables) < 2 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	b, err := os.ReadFile(tables[1])
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 0xff
	if err := os.WriteFile(tables[1], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPushTellsOfWhatIsMissingOnDiskAndEndsWith6(t *testing.T) {
	p := newInProcess(t)
	dir := keptDir(t, p, 5)
	push := []string{"push", "jobs", "new", "--dir", dir, "--detach", "--json"}
	if code, stderr := p.run(t.Context(), nil, io.Discard, push...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	damageTable(t, dir)
	var out bytes.Buffer
	code, stderr := p.run(t.Context(), nil, &out, push...)
	if code == exitStorage { // whoever finds the table sets it aside
		out.Reset()
		code, stderr = p.run(t.Context(), nil, &out, push...)
	}
	if code != exitLoss || strings.Count(out.String(), `"event":"loss"`) != 1 || strings.Count(out.String(), `"event":"sent"`) != 1 {
		t.Errorf("exit %d, want %d: %s\n%s", code, exitLoss, stderr, out.String())
	}
	out.Reset()
	if code, stderr := p.run(t.Context(), nil, &out, push...); code != 0 || strings.Contains(out.String(), "loss") {
		t.Errorf("told again: exit %d: %s\n%s", code, stderr, out.String())
	}
}

// Whatever a process writes to the control socket, the node that is asked lives on.
func FuzzOrdersAreCarriedOutOrRefused(f *testing.F) {
	dir := f.TempDir()
	store, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{})
	if err != nil {
		f.Fatal(err)
	}
	if err := store.Close(); err != nil {
		f.Fatal(err)
	}
	s, err := node.OpenSpool(dir, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	for _, order := range []string{
		`{"op":"ls"}` + "\n",
		`{"op":"import","namespace":"default","queue":"jobs"}` + "\n" + `{"body":"YQ==","key":"k","headers":{"a":"b"},"ttl_ms":5}` + "\n",
		`{"op":"peek","namespace":"default","queue":"jobs","from":2,"to":1,"count":1,"body":true}` + "\n",
		`{"op":"verify"}` + "\n",
		`{"op":"purge","namespace":"default","queue":"jobs","seqs":[0,18446744073709551615,1]}` + "\n",
		`{"op":"replay","dead":true,"namespace":"default","queue":"jobs"}` + "\n",
	} {
		f.Add([]byte(order))
	}
	f.Fuzz(func(t *testing.T, order []byte) {
		lines := 0
		err := obeyTending(t.Context(), bytes.NewReader(order), s, func(l line) error {
			lines++
			if kind, _ := l.one(); kind == "none" {
				t.Errorf("an empty line of %q", order)
			}
			return nil
		})
		if err == nil && !bytes.Contains(order, []byte("\n")) {
			t.Errorf("%q was carried out, and said %d lines", order, lines)
		}
	})
}
