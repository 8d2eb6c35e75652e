package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/socket"
	"peermesh/spool"
)

// The exit codes; scripts rely on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line, the environment or the configuration file
	exitTimeout     = 3 // --timeout
	exitRefused     = 4 // identity or policy
	exitStorage     = 5
	exitLoss        = 6 // a loss was printed or a check failed
	exitUnreachable = 7
)

// failure is an error that knows the exit code it ends the command with.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failf is an error with an exit code.
func failf(code int, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...)}
}

// usagef is an error in what was asked for. Its text says what to write instead.
func usagef(format string, args ...any) error { return failf(exitUsage, format, args...) }

// exitCode is the code an error ends the command with.
func exitCode(err error) int {
	var f *failure
	var refusal *identity.Refusal
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &refusal), errors.Is(err, node.ErrDenied), errors.Is(err, node.ErrLimits), errors.Is(err, node.ErrNoMeshKey):
		return exitRefused
	case isStorage(err):
		return exitStorage
	}
	return exitFailed
}

// isStorage reports whether the state directory is what failed.
func isStorage(err error) bool {
	for _, target := range []error{socket.ErrStorage, spool.ErrLocked, spool.ErrForeign, spool.ErrDamaged, spool.ErrVersion,
		spool.ErrNoKey, spool.ErrWrongKey, spool.ErrNotEncrypted,
		spool.ErrFailed, spool.ErrFull, spool.ErrSpoolFull, spool.ErrInUse} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// openError gives the failure to open a node its code and its cure.
func openError(g global, err error) error {
	if g.mesh != "" {
		switch _, merr := identity.LoadMesh(g.mesh); {
		case errors.Is(merr, fs.ErrNotExist):
			return usagef("--mesh %s: there is no such file; make a mesh with: peermesh init %s", g.mesh, g.mesh)
		case merr != nil:
			return usagef("--mesh: %w", merr)
		}
	}
	var network *net.OpError
	switch {
	case errors.Is(err, node.ErrPolicy):
		return usagef("%w; mend it, or apply a policy again: peermesh policy apply FILE", err)
	case g.spoolKey != "" && g.dir == "":
		return usagef("--spool-key-file %s without --dir: nothing is kept on disk; give --dir too", g.spoolKey)
	case errors.Is(err, spool.ErrLocked):
		return failf(exitStorage, "--dir %s is in use by another process; ask that one with: peermesh status --dir %s", g.dir, g.dir)
	case errors.Is(err, node.ErrLimits), errors.Is(err, node.ErrNoMeshKey):
		return failf(exitRefused, "%w", err)
	case errors.As(err, &network):
		return failf(exitFailed, "--listen %s: %w", g.listen, err)
	case g.dir != "":
		return dirError(g, err)
	}
	return err
}

// dirError gives the failure to open a state directory its code and its cure.
func dirError(g global, err error) error {
	switch {
	case errors.Is(err, spool.ErrKeyFile):
		return usagef("--spool-key-file: %w", err)
	case errors.Is(err, spool.ErrNoKey):
		return failf(exitStorage, "--dir %s is encrypted; give the --spool-key-file that it was made with", g.dir)
	case errors.Is(err, spool.ErrWrongKey):
		return failf(exitStorage, "--dir %s is encrypted with another key than that in %s; give the file that it was made with", g.dir, g.spoolKey)
	case errors.Is(err, spool.ErrNotEncrypted):
		return failf(exitStorage, "--dir %s is not encrypted; leave --spool-key-file out, or begin with an empty directory (spool export and import move messages)", g.dir)
	}
	return failf(exitStorage, "--dir %s: %w", g.dir, err)
}

// exitCodeOr is the code an error knows itself, or else another.
func exitCodeOr(err error, other int) int {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return other
}
