package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fakeVariable makes this test binary a peermesh command that does not keep its promises; it says how.
const fakeVariable = "PROVE_FAKE"

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeVariable); how != "" {
		os.Exit(fake(how, os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == partVerb {
		os.Exit(partOf(os.Args[2:]))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir != "" {
			_ = os.RemoveAll(dir) // a temporary folder
		}
		os.Exit(code)
	}))
}

// partOf makes this test binary a part.
func partOf(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return playPart(ctx, args, os.Stdout, os.Stderr)
}

// dir is where the command was built, if it was.
var dir string

// built is the command, built once for all tests.
var built = sync.OnceValues(func() (binary string, err error) {
	if dir, err = os.MkdirTemp("", "prove-test-"); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "peermesh")
	return binary, build(context.Background(), binary)
})

// proves runs a scenario and returns what it found.
func proves(t *testing.T, binary string, want int, args ...string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	work := filepath.Join(t.TempDir(), "work")
	var out, progress bytes.Buffer
	args = append(args, "--work", work, "--binary", binary)
	code := run(t.Context(), args, &out, &progress)
	if code == exitSkip {
		t.Skip(progress.String())
	}
	if code != want {
		t.Errorf("prove %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), code, want, &out, &progress)
	}
	if _, err := os.Stat(work); (err == nil) != (code == exitBroken) {
		t.Errorf("exit code %d, work folder: %v; it stays only for who looks for the reason", code, err)
	}
	return out.String()
}

func kept(t *testing.T, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts and kills processes for some seconds")
	}
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	proves(t, binary, exitKept, args...)
}

func TestProveKillShort(t *testing.T) {
	kept(t, "kill", "--kills", "8", "--push-kills", "2", "--pull-kills", "2", "--per-kill", "1", "--drain", "30s")
}

// So few messages that the share of flags says nothing: on a busy machine two cuts can flag a third of a second's.
func TestProvePowerShort(t *testing.T) {
	kept(t, "power", "--cuts", "2", "--rate", "200", "--drain", "30s")
}

func TestProveFullShort(t *testing.T) { kept(t, "full", "--rounds", "1") }

func TestProvePoisonShort(t *testing.T) { kept(t, "poison", "--count", "20", "--deliveries", "4") }

func TestProveBacklogShort(t *testing.T) {
	kept(t, "backlog", "--count", "5000", "--more", "500", "--size", "100", "--opening", "10s")
}

func TestProvePipelineShort(t *testing.T) {
	kept(t, "pipeline", "--kills", "5", "--per-kill", "1", "--drain", "30s")
}

func TestProveSubscribersShort(t *testing.T) {
	kept(t, "subscribers", "--count", "9000", "--gauge", "3000", "--slower", "1")
}

func TestCommandsThatBreakPromisesAreFound(t *testing.T) {
	for how, c := range map[string]struct{ drain, want string }{
		"loses":  {"30s", "violated: I1, I13\n"},
		"leaves": {"30s", "exit code 3, want 0"},
		"owes":   {"30s", "violated: I16\n"},
		"mute":   {"1s", "not everything has drained in time"},
	} {
		t.Run(how, func(t *testing.T) {
			out, progress, code := breaks(t, how, "--drain", c.drain)
			if code != exitBroken || !strings.Contains(progress, c.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, exitBroken, c.want, out, progress)
			}
		})
	}
}

// breaks runs `prove kill` on a command that does not keep its promises.
func breaks(t *testing.T, how string, args ...string) (out, progress string, code int) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeVariable, how)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	var o, p bytes.Buffer
	args = append([]string{"kill", "--kills", "3", "--push-kills", "1", "--pull-kills", "1", "--binary", self}, args...)
	if !slices.Contains(args, "--work") {
		args = append(args, "--work", filepath.Join(t.TempDir(), "work"))
	}
	code = run(t.Context(), args, &o, &p)
	return o.String(), p.String(), code
}

func TestKeptLogsAreJudgedAgain(t *testing.T) {
	work := filepath.Join(t.TempDir(), "work")
	out, _, _ := breaks(t, "loses", "--work", work)
	var again, progress bytes.Buffer
	if code := run(t.Context(), []string{"check", work}, &again, &progress); code != exitBroken {
		t.Errorf("check: exit code %d, want %d", code, exitBroken)
	}
	if again.Len() == 0 || !strings.Contains(out, again.String()) {
		t.Errorf("check says\n%s, and the run itself said\n%s", &again, out)
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{nil, exitUsage}, {[]string{"nothing"}, exitUsage}, {[]string{"kill", "--nothing"}, exitUsage}, {[]string{"kill", "7"}, exitUsage},
		{[]string{"check"}, exitUsage}, {[]string{"check", t.TempDir()}, exitBroken}, {[]string{"kill", "--work", t.TempDir()}, exitBroken},
		{[]string{"kill", "-h"}, exitKept},
	} {
		var out, progress bytes.Buffer
		if code := run(t.Context(), c.args, &out, &progress); code != c.code || progress.Len() == 0 {
			t.Errorf("%q: exit code %d, want %d, and a word on it:\n%s", c.args, code, c.code, &progress)
		}
	}
}

// fake is a command that stores nothing.
func fake(how string, args []string) int {
	verb := args[0]
	if verb == "init" {
		return 0
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	out := json.NewEncoder(os.Stdout)
	say := func(event string, fields map[string]any) {
		fields["v"], fields["t"], fields["event"] = 1, monotonic(), event
		if err := out.Encode(fields); err != nil {
			os.Exit(1)
		}
	}
	say("ready", map[string]any{"id": verb, "incarnation": monotonic()})
	ledger := map[string]any{}
	if verb == "forward" {
		switch how {
		case "loses":
			say("send", map[string]any{"n": 0, "hash": "0123456789abcdef"})
			say("sent", map[string]any{"n": 0, "stream": "push.s.default.push.jobs", "seq": 1, "level": "durable"})
			ledger = map[string]any{"accepted": 1, "done": 1}
		case "owes":
			ledger = map[string]any{"carried": 1, "queued": 1}
		case "leaves":
			return 3
		}
	}
	if verb != "forward" || how == "mute" {
		select {
		case <-told:
		case <-time.After(time.Minute): // it is killed long before
		}
	}
	say("summary", map[string]any{"ledger": ledger})
	return 0
}
