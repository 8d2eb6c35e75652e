package main

import (
	"errors"
	"fmt"
	"io/fs"

	"peermesh/internal/identity"

	"github.com/spf13/cobra"
)

func initCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "init [FILE]",
		GroupID: groupSecure,
		Short:   "Make a mesh and its credential",
		Long: `Makes a new mesh and its credential FILE (mode 0600), which holds the mesh's key. Every node that is
started with --mesh FILE is a member, and peermesh invite lets other machines in. Without FILE it makes your own mesh, which is used when no --mesh is
given; that one is made by itself on first use.`,
		Args: arguments(0, 1, "at most one FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			path := a.global.mesh
			if len(args) > 0 {
				path = args[0]
			}
			return a.initMesh(path)
		},
	}
}

func (a *app) initMesh(path string) error {
	var m *identity.Mesh
	var err error
	if path == "" {
		m, path, err = identity.DefaultMesh()
	} else {
		m, err = identity.CreateMesh(path)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return failf(exitFailed, "%s is there already and was left as it is; name another file, or use it with --mesh", path)
	case err != nil:
		return err
	}
	a.events.emit("mesh", struct {
		ID   string `json:"id"`
		Path string `json:"path"`
	}{m.ID().String(), path})
	return a.line(fmt.Sprintf("mesh %s in %s", m.ID(), path))
}
