package main

import (
	"github.com/spf13/cobra"
)

func completionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish",
		GroupID: groupSecure,
		Short:   "A script that completes this command in a shell",
		Example: `  source <(peermesh completion bash)
  peermesh completion zsh > "${fpath[1]}/_peermesh"
  peermesh completion fish > ~/.config/fish/completions/peermesh.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      arguments(1, 1, "one of bash, zsh and fish"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return usagef("%q is not a shell it knows; give one of bash, zsh and fish", args[0])
		},
	}
}
