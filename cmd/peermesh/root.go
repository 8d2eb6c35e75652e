package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"peermesh/spool"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what every verb works with.
type app struct {
	stdin   io.Reader
	stdout  io.Writer // data only
	stderr  io.Writer // safe for concurrent use
	environ map[string]string
	began   time.Time

	global global  // the flags of every verb, settled before a verb runs
	events *events // nil without --json

	drain atomic.Int64 // how long the end may take, a time.Duration; 0: drainFor

	spoolProfile spool.Profile // what the sidecar's configuration says

	benchHead bool // the table of a bench has begun
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, environ []string) *app {
	a := &app{stdin: stdin, stdout: stdout, stderr: &lockedWriter{w: stderr}, environ: map[string]string{}, began: time.Now()}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		a.environ[name] = value
	}
	return a
}

// The groups of the help text.
const (
	groupTalk   = "talk"
	groupSee    = "see"
	groupSecure = "secure"
)

// verbs are the commands; the help sorts them within their groups.
func verbs(a *app) []*cobra.Command {
	return []*cobra.Command{
		pushCommand(a),
		forwardCommand(a),
		pullCommand(a),
		pubCommand(a),
		subCommand(a),
		reqCommand(a),
		repCommand(a),
		statusCommand(a),
		peersCommand(a),
		socketsCommand(a),
		discoverCommand(a),
		pingCommand(a),
		pathCommand(a),
		topologyCommand(a),
		whyCommand(a),
		doctorCommand(a),
		topCommand(a),
		eventsCommand(a),
		logsCommand(a),
		spoolCommand(a),
		dlqCommand(a),
		demoCommand(a),
		benchCommand(a),
		sidecarCommand(a),
		initCommand(a),
		inviteCommand(a),
		joinCommand(a),
		certCommand(a),
		policyCommand(a),
		revokeCommand(a),
		completionCommand(a),
		manCommand(),
		versionCommand(a),
	}
}

func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "peermesh",
		Short: "Messaging between processes without a broker",
		Long: `Messaging between processes without a broker: push/pull, pub/sub and req/rep.

The global flags are environment variables too (--no-mdns is PEERMESH_NO_MDNS), and keys of the
--config file. The command line wins over the environment, that over the file.`,
		Example: `  peermesh pull jobs                        in one terminal
  echo cat.png | peermesh push jobs         in another
  peermesh rep upper --exec 'tr a-z A-Z'    answers what
  peermesh req upper hello                  asks`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			cmd.SetOut(a.stderr)
			_ = cmd.Help() // to stderr, and nothing can be said if that fails
			return usagef("name a verb")
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settle(cmd.Root().PersistentFlags()) },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(&cobra.Group{ID: groupTalk, Title: "Talk:"}, &cobra.Group{ID: groupSee, Title: "See:"},
		&cobra.Group{ID: groupSecure, Title: "Run and secure:"})
	root.SetHelpCommand(helpCommand())
	a.global.register(root.PersistentFlags())
	for _, v := range verbs(a) {
		exemplify(v, v.Name())
		root.AddCommand(v)
	}
	return root
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB]",
		GroupID: groupSecure,
		Short:   "Help for a verb",
		Example: `  peermesh help push
  peermesh help spool ls`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, _, err := cmd.Root().Find(args)
			if err != nil || len(args) > 0 && about == cmd.Root() {
				return unknownVerb(cmd.Root(), args[0])
			}
			return about.Help()
		},
	}
}

// unknownVerb says which verb was perhaps meant.
func unknownVerb(root *cobra.Command, name string) error {
	hint := "peermesh --help lists the verbs"
	if near := root.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("there is no verb %q; %s", name, hint)
}

// flagError makes one line of what is wrong with a flag, with the way out.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return usagef("--%s %q: %s", value.GetFlag().Name, value.GetValue(), plainCause(value.GetFlag(), value.Unwrap()))
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	}
	return usagef("%w; see %s --help, and put -- before a body that begins with -", err, cmd.CommandPath())
}

// plainCause says what a flag's value should look like.
func plainCause(f *pflag.Flag, cause error) string {
	switch f.Value.Type() {
	case "duration":
		return "not a duration; write for example 500ms, 5s or 2m"
	case "int", "uint64":
		return "not a whole number that is possible here"
	case "float64":
		return "not a number"
	case "bool":
		return "neither true nor false"
	}
	return cause.Error()
}

// arguments checks the number of arguments; max < 0 is no upper bound. names are how
// the usage line calls them.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("give %s: %s", names, cmd.UseLine())
		case most == 0 && len(args) > 0:
			return usagef("%q is too much; give flags only", args[0])
		case most >= 0 && len(args) > most:
			return usagef("%q is too much; give only %s", args[most], names)
		}
		return nil
	}
}

// complain prints an error as one line.
func (a *app) complain(path string, err error) {
	fmt.Fprintf(a.stderr, "%s: %s\n", path, oneLine(err.Error()))
}
