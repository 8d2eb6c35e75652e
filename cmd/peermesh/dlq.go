package main

import (
	"peermesh/internal/wire"

	"github.com/spf13/cobra"
)

func dlqCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dlq",
		GroupID: groupSee,
		Short:   "Look after dead letters: messages whose deliveries have all failed",
		Long: `Shows the dead letters that the node of --dir keeps on disk, sends them again or throws them away:
through that node if it runs, otherwise in its directory.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no dlq %q; give ls, peek, replay or drop", args[0])
			}
			return usagef("give ls, peek, replay or drop")
		},
	}
	cmd.AddCommand(dlqList(a), dlqPeek(a), dlqReplay(a), dlqDrop(a))
	return cmd
}

func dlqList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "The queues that have dead letters, and how many",
		Args:  arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tend(cmd.Context(), &tending{Op: opList, Dead: true}, &tendShow{header: queueHeader})
		},
	}
}

func dlqPeek(a *app) *cobra.Command {
	o := tending{Dead: true}
	cmd := &cobra.Command{
		Use:   "peek QUEUE",
		Short: "Show dead letters; their headers tell what they died of",
		Args:  arguments(1, 1, "one QUEUE"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.runPeek(cmd, a, args[0]) },
	}
	o.registerPeek(cmd)
	return cmd
}

func dlqReplay(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "replay QUEUE [SEQ...]",
		Short: "Send dead letters again, all or some, as new messages of QUEUE",
		Long: `Makes a new message of each dead letter: with its body, key and headers, and original-id, the
header that tells which message it was. Each is at no time both, nor neither.`,
		Args: arguments(1, -1, "a QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tendLetters(cmd, &tending{Op: opReplay, Queue: args[0]}, args[1:])
		},
	}
}

func dlqDrop(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "drop QUEUE [SEQ...]",
		Short: "Throw dead letters away, all or some",
		Args:  arguments(1, -1, "a QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usagef("drop throws dead letters away for good; give --yes too")
			}
			return a.tendLetters(cmd, &tending{Op: opPurge, Queue: args[0]}, args[1:])
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// tendLetters carries out an order about dead letters, all or those of the seqs.
func (a *app) tendLetters(cmd *cobra.Command, o *tending, seqs []string) (err error) {
	o.Dead = true
	if err := checkName(wire.Push, o.Queue); err != nil {
		return err
	}
	if o.Seqs, err = seqsOf(seqs); err != nil {
		return err
	}
	return a.tend(cmd.Context(), o, &tendShow{})
}
