//go:build unix

package sqlbox

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// server is a PostgreSQL to test with; empty: noServer says why there is none.
var server, noServer string

// withServer runs the tests with the server that SQLBOX_POSTGRES names, or with one of their
// own if the programs are on this machine (Debian: apt-get install postgresql).
func withServer(m *testing.M) int {
	if server = os.Getenv("SQLBOX_POSTGRES"); server != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("/tmp", "sqlbox") // short: a socket's path is bounded
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	stop, err := startServer(dir)
	if err != nil {
		noServer = err.Error()
		fmt.Fprintln(os.Stderr, "the tests with PostgreSQL are skipped:", err)
		return m.Run()
	}
	defer stop()
	return m.Run()
}

func startServer(dir string) (stop func(), err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	as, err := identity(dir)
	if err != nil {
		return nil, err
	}
	run := func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		cmd.SysProcAttr = as
		// pg_ctl leaves its output to the server: a pipe would never end.
		log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s: %w\n%s", name, err, text)
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := run("initdb", "-D", data, "-U", "sqlbox", "--auth=trust", "--no-sync"); err != nil {
		return nil, err
	}
	if err := run("pg_ctl", "-D", data, "-w", "-o", "-c listen_addresses='' -k "+dir, "start"); err != nil {
		return nil, err
	}
	server = "host=" + dir + " user=sqlbox dbname=postgres"
	return func() {
		if err := run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

// programs is where initdb and pg_ctl are.
func programs() (string, error) {
	candidates, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		candidates = append(candidates, path)
	}
	if len(candidates) == 0 {
		return "", fmt.Errorf("no pg_ctl on this machine (Debian: apt-get install postgresql), and SQLBOX_POSTGRES is not set")
	}
	return filepath.Dir(candidates[len(candidates)-1]), nil
}

// identity is who runs the server: it refuses to run as root.
func identity(dir string) (*syscall.SysProcAttr, error) {
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("user postgres has the ids %s and %s", u.Uid, u.Gid)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
