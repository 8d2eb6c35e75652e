package main

import (
	"strconv"

	"peermesh/internal/wire"
	"peermesh/node"

	"github.com/spf13/cobra"
)

// What tables of the verbs spool and dlq are headed with.
const (
	queueHeader  = "NAMESPACE KIND QUEUE MESSAGES LAST BYTES STATE"
	verifyHeader = "NAMESPACE KIND QUEUE BLOCKS MESSAGES BYTES VERDICT"
	recordHeader = "SEQ STORED KEY SIZE HASH HEADERS"
)

// peekCount is how many messages are shown without --count.
const peekCount = 20

func spoolCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "spool",
		GroupID: groupSee,
		Short:   "Look after what a node keeps on disk",
		Long: `Shows, checks and moves the messages that the node of --dir keeps on disk: through that node if
it runs, otherwise in its directory.`,
		Example: `  peermesh spool ls --dir state
  peermesh spool peek jobs --dir state --body
  peermesh spool export jobs --dir state | peermesh spool import jobs --dir other`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no spool %q; give ls, stat, peek, verify, purge, export or import", args[0])
			}
			return usagef("give ls, stat, peek, verify, purge, export or import")
		},
	}
	cmd.AddCommand(spoolList(a), spoolStat(a), spoolPeek(a), spoolVerify(a), spoolPurge(a), spoolExport(a), spoolImport(a))
	return cmd
}

func spoolList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "The queues on disk, and how many messages wait in each",
		Args:  arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tend(cmd.Context(), &tending{Op: opList}, &tendShow{header: queueHeader})
		},
	}
}

func spoolStat(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stat",
		Short: "Bounds, use and health of the store",
		Args:  arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tend(cmd.Context(), &tending{Op: opStat}, &tendShow{})
		},
	}
}

func spoolPeek(a *app) *cobra.Command {
	var o tending
	cmd := &cobra.Command{
		Use:   "peek QUEUE",
		Short: "Show messages and leave them where they are",
		Args:  arguments(1, 1, "one QUEUE"),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.runPeek(cmd, a, args[0]) },
	}
	o.registerPeek(cmd)
	o.registerKind(cmd)
	return cmd
}

// registerKind declares the flag that chooses another kind of queue.
func (o *tending) registerKind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.Kind, "kind", node.QueuePush, "`kind` of QUEUE, as spool ls lists it: push, dead, pub or pub-dead")
}

// registerPeek declares the flags of spool peek and dlq peek.
func (o *tending) registerPeek(cmd *cobra.Command) {
	o.registerRange(cmd)
	cmd.Flags().Uint64Var(&o.Count, "count", peekCount, "show at most `N`; 0 is all")
	cmd.Flags().BoolVar(&o.Body, "body", false, "show bodies too")
}

// registerRange declares the flags that choose messages.
func (o *tending) registerRange(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&o.From, "from", 1, "begin at `SEQ`")
	cmd.Flags().Uint64Var(&o.To, "to", 0, "end at `SEQ` (default: the last)")
}

func (o *tending) runPeek(cmd *cobra.Command, a *app, queue string) error {
	o.Op, o.Queue = opPeek, queue
	if err := checkName(wire.Push, queue); err != nil {
		return err
	}
	header := recordHeader
	if o.Body {
		header += " BODY"
	}
	return a.tend(cmd.Context(), o, &tendShow{header: header, bodies: o.Body})
}

func spoolVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [QUEUE]",
		Short: "Read everything and tell what is damaged; exit code 6 if anything is",
		Args:  arguments(0, 1, "one QUEUE or none"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := tending{Op: opVerify}
			if len(args) > 0 {
				o.Queue = args[0]
				if err := checkName(wire.Push, o.Queue); err != nil {
					return err
				}
			}
			return a.tend(cmd.Context(), &o, &tendShow{header: verifyHeader})
		},
	}
}

func spoolPurge(a *app) *cobra.Command {
	var o tending
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge QUEUE",
		Short: "Throw messages away that nobody has handled",
		Args:  arguments(1, 1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Op, o.Queue = opPurge, args[0]
			if err := checkName(wire.Push, o.Queue); err != nil {
				return err
			}
			if !yes {
				return usagef("purge throws messages away that nobody has handled; give --yes too")
			}
			return a.tend(cmd.Context(), &o, &tendShow{})
		},
	}
	o.registerRange(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func spoolExport(a *app) *cobra.Command {
	o := tending{Op: opPeek, Body: true}
	cmd := &cobra.Command{
		Use:   "export QUEUE",
		Short: "Print messages as JSON, one object a line, and leave them where they are",
		Args:  arguments(1, 1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Queue = args[0]
			if err := checkName(wire.Push, o.Queue); err != nil {
				return err
			}
			return a.tend(cmd.Context(), &o, &tendShow{objects: true})
		},
	}
	o.registerRange(cmd)
	o.registerKind(cmd)
	return cmd
}

func spoolImport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import QUEUE",
		Short: "Make new messages of what export printed, from stdin",
		Args:  arguments(1, 1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := tending{Op: opImport, Queue: args[0], messages: a.stdin}
			if err := checkName(wire.Push, o.Queue); err != nil {
				return err
			}
			return a.tend(cmd.Context(), &o, &tendShow{})
		},
	}
}

// seqsOf reads seqs from a command line.
func seqsOf(args []string) (seqs []uint64, err error) {
	for _, text := range args {
		seq, err := strconv.ParseUint(text, 10, 64)
		if err != nil || seq == 0 {
			return nil, usagef("%q is no seq; write numbers from 1", text)
		}
		seqs = append(seqs, seq)
	}
	return seqs, nil
}
