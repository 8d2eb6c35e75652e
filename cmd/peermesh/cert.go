package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"

	"github.com/spf13/cobra"
)

func certCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cert",
		GroupID: groupSecure,
		Short:   "What the mesh credential here may do, and its renewal",
		Long: `Shows the mesh credential of this machine, or renews it if it is one that peermesh join got. The
certificates of nodes are made from it and renewed by themselves.`,
		Example: `  peermesh cert show
  peermesh cert renew --peer hub:4242`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no cert %q; give show or renew", args[0])
			}
			return usagef("give show or renew")
		},
	}
	cmd.AddCommand(certShow(a), certRenew(a))
	return cmd
}

func certShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Whose credential it is, how long it is good, and what it may sign",
		Long: `Shows the credential in FILE, that of --mesh, or your own mesh's. One that holds the mesh's key signs
every node, policies and invitations, and has no end. One of a machine that joined signs nodes within
its limits; exits with 1 if it has run out.`,
		Args: arguments(0, 1, "at most one FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			path := a.global.mesh
			if len(args) > 0 {
				path = args[0]
			}
			return a.showCert(path)
		},
	}
}

type certEvent struct {
	Mesh      string     `json:"mesh"`
	Path      string     `json:"path"`
	MeshKey   bool       `json:"mesh_key"`     // it holds the mesh's own key: the rest is left out
	ID        string     `json:"id,omitempty"` // of the credential's key
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name,omitempty"`
	Roles     []string   `json:"roles,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	Expired   bool       `json:"expired,omitempty"`
}

func (a *app) showCert(path string) error {
	var err error
	if path == "" {
		if path, err = identity.DefaultPath(); err != nil {
			return err
		}
	}
	m, err := identity.LoadMesh(path)
	if err != nil {
		return usagef("%w", err)
	}
	u, joined := m.User()
	e := certEvent{Mesh: m.ID().String(), Path: path, MeshKey: !joined}
	if !joined {
		a.events.emit("cert", e)
		return a.line(fmt.Sprintf("mesh %s in %s\n  holds the mesh's own key: signs every node, policies and invitations; no end", m.ID(), path))
	}
	from, to := u.NotBefore.UTC(), u.NotAfter.UTC()
	e.ID, e.NotBefore, e.NotAfter, e.Expired = u.ID.String(), &from, &to, time.Now().After(to)
	e.Namespace, e.Name, e.Roles = string(u.Limits.Namespace), string(u.Limits.Name), nil
	for _, role := range u.Limits.Roles {
		e.Roles = append(e.Roles, string(role))
	}
	a.events.emit("cert", e)
	if err := a.line(fmt.Sprintf("mesh %s in %s\n  credential %s, signed by the mesh, from %s to %s\n  signs nodes of namespace %s named %s, %s; no policy and no invitation",
		m.ID(), path, u.ID, from.Format(time.RFC3339), to.Format(time.RFC3339), oneLine(e.Namespace), oneLine(e.Name), rolesText(e.Roles))); err != nil {
		return err
	}
	if e.Expired {
		return failf(exitFailed, "%s ran out at %s; renew it: peermesh cert renew", path, to.Format(time.RFC3339))
	}
	return nil
}

func certRenew(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Have the credential of this machine signed for another year",
		Long: `Has a running node that holds the mesh's key sign the credential that peermesh join got, for another
year and with the same limits, whether it has run out or not, but not if it is revoked. It asks the
nodes of --peer and those found on the local network, for --timeout (30s), and puts the new credential
in the place of the old one. Nodes that are running use it when they are started again.`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.renewCert(cmd.Context()) },
	}
}

// scoutConfig is that of a node that only looks around, with a name that the credential is good for.
func (a *app) scoutConfig() node.Config {
	cfg := a.nodeConfig()
	cfg.Dir, cfg.SpoolKeyFile = "", ""
	path := cfg.Mesh
	if path == "" {
		path, _ = identity.DefaultPath() // whoever opens the node is told
	}
	m, err := identity.LoadMesh(path)
	if err != nil {
		return cfg
	}
	if u, joined := m.User(); joined {
		const any = "any" // in the place of each *, it fits the pattern
		cfg.Name = strings.ReplaceAll(string(u.Limits.Name), "*", any)
		cfg.Namespace = strings.ReplaceAll(string(u.Limits.Namespace), "*", any)
		cfg.Roles = nil
	}
	return cfg
}

func (a *app) renewCert(ctx context.Context) (err error) {
	ctx, cancel := a.enrolling(ctx)
	defer cancel()
	addrs := func() []string { return a.global.peers }
	if !a.global.noMDNS {
		n, err := node.Open(ctx, a.scoutConfig())
		if err != nil {
			return openError(a.global, err)
		}
		defer func() { err = errors.Join(err, n.Close()) }()
		addrs = func() []string {
			all := append([]string{}, a.global.peers...)
			for _, c := range n.Candidates() {
				all = append(all, c.Addr)
			}
			return all
		}
	}
	j, err := node.Renew(ctx, node.RenewConfig{Mesh: a.global.mesh, Addrs: addrs, Logger: a.logger()})
	if errors.Is(err, node.ErrNotJoined) {
		return usagef("%w", err)
	}
	if err != nil {
		return a.enrollError(err, "give the address of a node that holds the mesh's key with --peer")
	}
	return a.lineJoined("renewed", j)
}
