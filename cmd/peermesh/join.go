package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"peermesh/node"

	"github.com/spf13/cobra"
)

// enrollWithin is how long join and cert renew try without --timeout.
const enrollWithin = 30 * time.Second

func joinCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "join TOKEN",
		GroupID: groupSecure,
		Short:   "Bring this machine into the mesh that a token invites it to",
		Long: `Makes a key, which stays here, and has the machine where peermesh invite printed TOKEN (- is stdin) sign
it. The credential is written to the file of --mesh, by default that of your own mesh if there is none
yet; nothing is overwritten. With it nodes of this machine are in the mesh, as far as the invitation
goes. If it is cut short, run it again here with the same TOKEN. It tries for --timeout (30s).`,
		Example: `  peermesh join pm1aeb4... --mesh blue.pem
  peermesh pull jobs --mesh blue.pem`,
		Args: arguments(1, 1, "one TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.join(cmd.Context(), args[0]) },
	}
}

type joinedEvent struct {
	Mesh      string    `json:"mesh"`
	ID        string    `json:"id"`
	Path      string    `json:"path"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Roles     []string  `json:"roles"`
	NotAfter  time.Time `json:"not_after"`
}

func (a *app) join(ctx context.Context, token string) error {
	if token == "-" {
		text, err := io.ReadAll(io.LimitReader(a.stdin, 1<<16))
		if err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
		token = string(text)
	}
	ctx, cancel := a.enrolling(ctx)
	defer cancel()
	j, err := node.Join(ctx, node.JoinConfig{Token: token, Mesh: a.global.mesh, Logger: a.logger()})
	if err != nil {
		return a.enrollError(err, "is peermesh invite still running there, and is there a way to it (UDP)?")
	}
	return a.lineJoined("joined", j)
}

// enrolling bounds the tries.
func (a *app) enrolling(ctx context.Context) (context.Context, context.CancelFunc) {
	d := a.global.timeout
	if d == 0 {
		d = enrollWithin
	}
	return context.WithTimeout(ctx, d)
}

// enrollError gives a failure its code and its cure.
func (a *app) enrollError(err error, noAnswer string) error {
	var refused *node.Enrolled
	switch {
	case errors.Is(err, node.ErrToken):
		return usagef("%w", err)
	case errors.Is(err, fs.ErrExist):
		return failf(exitFailed, "%w and was left as it is; name another file with --mesh", err)
	case errors.As(err, &refused):
		return failf(exitRefused, "%w", err)
	case errors.Is(err, node.ErrNoAnswer):
		return failf(exitUnreachable, "%w; %s", err, noAnswer)
	case errors.Is(err, node.ErrNotWritten):
		return failf(exitStorage, "%w", err)
	}
	return err
}

// lineJoined tells of a credential that is there.
func (a *app) lineJoined(what string, j node.Joined) error {
	a.events.emit(what, joinedEvent{j.Mesh.String(), j.ID.String(), j.Path, j.Namespace, j.Name, append([]string{}, j.Roles...), j.NotAfter.UTC()})
	return a.line(fmt.Sprintf("%s mesh %s in %s: nodes of namespace %s named %s, %s, until %s; credential %s", what, j.Mesh, j.Path,
		oneLine(j.Namespace), oneLine(j.Name), rolesText(j.Roles), j.NotAfter.UTC().Format(time.DateOnly), j.ID))
}

func rolesText(roles []string) string {
	if len(roles) == 0 {
		return "without roles"
	}
	return "of role " + oneLine(strings.Join(roles, ", "))
}
