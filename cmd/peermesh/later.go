package main

import (
	"github.com/spf13/cobra"
)

// later are verbs that scripts may know and this version does not have yet, and what
// to use instead. They are refused by name rather than as unknown.
var later = map[string]string{
	"invite": "copy the mesh credential that init made to the new machine",
	"join":   "copy the mesh credential to this machine and name it with --mesh",
	"cert":   "certificates are made and renewed by themselves",
}

// laterCommands are commands that say so.
func laterCommands() []*cobra.Command {
	var cmds []*cobra.Command
	for name, instead := range later {
		cmds = append(cmds, &cobra.Command{
			Use:                name,
			Hidden:             true,
			DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return usagef("not in this version; %s", instead)
			},
		})
	}
	return cmds
}
