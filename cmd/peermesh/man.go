package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		GroupID: groupSecure,
		Short:   "Write a man page for each verb into a directory",
		Long: `Write a man page for each verb into a directory, which is made if it is not there. Pages that are there
already are replaced. They are made of what --help says.`,
		Example: `  peermesh man man1
  man ./man1/peermesh-push.1`,
		Args: arguments(1, 1, "the directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return usagef("%w; give a directory that can be written", err)
			}
			for _, about := range family(cmd.Root()) {
				if err := os.WriteFile(filepath.Join(args[0], manName(about)+".1"), []byte(manPage(about)), 0o644); err != nil {
					return usagef("%w; give a directory that can be written", err)
				}
			}
			return nil
		},
	}
}

// family is a verb and all below it that the help shows.
func family(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			all = append(all, family(sub)...)
		}
	}
	return all
}

// manName is what the page of a verb is called.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the page of a verb in the language of man(7).
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"peermesh\" \"User Commands\"\n", strings.ToUpper(manName(cmd)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n", roff(cmd.UseLine()))
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	b.WriteString(".SH DESCRIPTION\n" + manText(about))
	b.WriteString(".SH OPTIONS\n")
	if cmd.HasParent() {
		b.WriteString("Beside those of every verb, which are in peermesh(1):\n")
	}
	manFlags(&b, cmd.LocalFlags())
	b.WriteString(".SH EXAMPLES\n" + manVerbatim(strings.Split(strings.Trim(cmd.Example, "\n"), "\n")))
	if !cmd.HasParent() {
		b.WriteString(".SH EXIT STATUS\n" + manVerbatim(exitTexts()))
	}
	b.WriteString(".SH SEE ALSO\n" + strings.Join(manNeighbours(cmd), ",\n") + "\n")
	return b.String()
}

// manFlags writes a paragraph for each flag, or that there is none.
func manFlags(b *strings.Builder, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		b.WriteString("none.\n")
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		what, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if what != "" {
			name += " " + what
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(usage))
	})
}

// exitTexts says what each exit code means.
func exitTexts() []string {
	return []string{
		fmt.Sprint(exitOK, "  all went well"),
		fmt.Sprint(exitFailed, "  it failed, or not every outcome was good"),
		fmt.Sprint(exitUsage, "  the command line, the environment or the configuration file is wrong"),
		fmt.Sprint(exitTimeout, "  --timeout was over"),
		fmt.Sprint(exitRefused, "  refused: identity or policy"),
		fmt.Sprint(exitStorage, "  the disk: full, failed, in use or not to be opened"),
		fmt.Sprint(exitLoss, "  a loss was found, or a check failed"),
		fmt.Sprint(exitUnreachable, "  no peer was reached within --timeout"),
	}
}

// manNeighbours are the pages of the verbs around one.
func manNeighbours(cmd *cobra.Command) (pages []string) {
	if cmd.HasParent() {
		pages = append(pages, roff(manName(cmd.Parent()))+"(1)")
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			pages = append(pages, roff(manName(sub))+"(1)")
		}
	}
	return pages
}

// manText makes paragraphs of a text. Lines that are indented stay as they are.
func manText(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		lines := strings.Split(paragraph, "\n")
		if strings.HasPrefix(paragraph, " ") {
			b.WriteString(manVerbatim(lines))
			continue
		}
		for _, line := range lines {
			b.WriteString(roff(line) + "\n")
		}
	}
	return b.String()
}

// manVerbatim are lines that are not filled.
func manVerbatim(lines []string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for _, line := range lines {
		b.WriteString(roff(line) + "\n")
	}
	return b.String() + ".fi\n"
}

// roff makes a line mean itself: neither a request nor an escape, and with hyphens that can be copied.
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}
