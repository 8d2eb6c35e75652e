package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
)

// machine is a HOME of its own.
type machine struct {
	*testing.T
	home string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	home := t.TempDir()
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	return machine{t, home}
}

// command is peermesh on that machine.
func (m machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("peermesh", append(args, "--no-mdns", "--listen", "127.0.0.1:0", "--json")...)
	cmd.Env = append(cmd.Environ(), "HOME="+m.home, "XDG_CONFIG_HOME="+filepath.Join(m.home, "config"), "GORACE=atexit_sleep_ms=50")
	return cmd
}

// invites starts an invitation and returns its token; ended waits for its end and returns what it printed.
func (m machine) invites() (token string, ended func() (string, error)) {
	m.Helper()
	cmd := m.command("invite")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		m.Fatalf("invite printed nothing: %v", cmd.Wait())
	}
	var e struct{ Token string }
	if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
		m.Fatal(err)
	}
	return e.Token, func() (string, error) {
		var rest strings.Builder
		for lines.Scan() {
			rest.WriteString(lines.Text() + "\n")
		}
		return rest.String(), cmd.Wait()
	}
}

// A machine whose process is killed again and again while it joins, wherever that is, joins in the end with the one use that
// there is, and the inviter knows it.
func TestAMachineKilledWhileItJoinsJoinsInTheEnd(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("kills many processes")
	}
	hub, away := newMachine(t), newMachine(t)
	token, ended := hub.invites()
	path := filepath.Join(away.home, "mesh.pem")
	for range 12 {
		cmd := away.command("join", token, "--mesh", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dies := time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		dies.Stop()
		if err == nil {
			break // it was faster
		}
	}
	var stderr bytes.Buffer
	last := away.command("join", token, "--mesh", path, "--timeout", "2m")
	last.Stderr = &stderr
	var exit *exec.ExitError
	// It had joined before, if it says that the credential is there.
	if err := last.Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "already exists")) {
		t.Fatalf("join: %v: %s", err, stderr.String())
	}
	m, err := identity.LoadMesh(path)
	if err != nil {
		t.Fatal(err)
	}
	u, joined := m.User()
	if told, err := ended(); err != nil || !joined || !strings.Contains(told, `"state":"joined","id":"`+u.ID.String()+`"`) ||
		!strings.Contains(told, `"event":"invited","uses":1,"given":1,"joined":1`) {
		t.Errorf("the inviter ended (%v) and told, of credential %v:\n%s", err, u.ID, told)
	}
	if _, err := os.Stat(path + ".joining"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its key is still beside the credential: %v", err)
	}
}
