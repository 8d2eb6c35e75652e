package main

import (
	"peermesh/internal/identity"
	"peermesh/internal/policy"

	"github.com/spf13/cobra"
)

func revokeCommand(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "revoke ID...",
		GroupID: groupSecure,
		Short:   "Shut nodes, or a machine that joined, out of the mesh",
		Long: `Adds nodes to those that the policy revokes, signs it and puts it in force, see policy apply. Their
links are cut, and nobody who knows that policy takes them again. ID is that of a node, or that of the
credential of a machine that joined (peermesh cert show), with all nodes that it signed. One that has
the mesh's own key can make new nodes, so then make a new mesh with init too.`,
		Example: `  peermesh revoke r4kmh2xpb6e3vszzq7wl5jcnte --reason "laptop stolen"`,
		Args:    arguments(1, -1, "an ID; peermesh peers lists them"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.statute()
			if err != nil {
				return err
			}
			text := policy.Empty()
			if s.inUse != nil {
				text = s.inUse.Text()
			}
			for _, arg := range args {
				id, err := identity.ParseID(arg)
				if err != nil {
					return usagef("%w; peermesh peers lists them", err)
				}
				if _, done := s.inUse.Revoked(id); done {
					return usagef("%v is revoked already; nothing is left to do", id)
				}
				if text, err = policy.Revoke(text, id, reason); err != nil {
					return usagef("revoke %v: line %w", id, err)
				}
			}
			return s.apply(a, "revoke", text)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`why`, which is told to them and to all that refuse them")
	return cmd
}
