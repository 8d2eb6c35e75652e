package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"peermesh/internal/identity"
	"peermesh/internal/policy"
	"peermesh/node"

	"github.com/spf13/cobra"
)

func policyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		GroupID: groupSecure,
		Short:   "Rules of who may push, pull, pub, sub, req and rep what",
		Long: `Shows, tries and signs the policy of a mesh. It lies beside the mesh credential (mesh.policy for
mesh.pem) or where --policy says; running nodes take a new one within two seconds and tell their
peers. docs/POLICY.md explains the language.`,
		Example: `  peermesh policy show > draft              begin with what is in force
  peermesh policy test bob push jobs --file draft
  peermesh policy apply draft               sign it and put it in force`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no policy %q; give show, test or apply", args[0])
			}
			return usagef("give show, test or apply")
		},
	}
	cmd.AddCommand(policyShow(a), policyTest(a), policyApply(a))
	return cmd
}

// statute is where the policy of a mesh lies, and the mesh that signs it.
type statute struct {
	mesh  *identity.Mesh
	path  string
	kept  string         // the copy of the node of --dir; "" without
	inUse *policy.Policy // the newest on this machine, as far as these files tell; nil: none
	from  string         // where that is
}

func (a *app) statute() (*statute, error) {
	g := &a.global
	s := &statute{path: g.policy}
	var err error
	credential := g.mesh
	if credential == "" {
		s.mesh, credential, err = identity.DefaultMesh()
	} else {
		s.mesh, err = identity.LoadMesh(credential)
	}
	if err != nil {
		return nil, openError(a.global, err)
	}
	if s.path == "" {
		s.path = policy.Beside(credential)
	}
	if g.dir != "" {
		s.kept = filepath.Join(g.dir, "mesh.policy")
	}
	for _, path := range []string{s.path, s.kept} {
		if path == "" {
			continue
		}
		switch p, err := policy.Read(path, s.mesh.Public()); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, failf(exitFailed, "%w; mend it, or remove it and apply a policy again", err)
		case s.inUse == nil || p.Version() > s.inUse.Version():
			s.inUse, s.from = p, path
		}
	}
	return s, nil
}

// policyEvent describes a policy.
type policyEvent struct {
	Version uint64 `json:"version"`
	Path    string `json:"path"`
	Default string `json:"default"`
	Rules   int    `json:"rules"`
	Revoked int    `json:"revoked"`
	Text    string `json:"text,omitempty"`
}

func policyEventOf(p *policy.Policy, path string) policyEvent {
	return policyEvent{p.Version(), path, allowWord(p.Allows()), p.Rules(), p.RevokedNodes(), ""}
}

func allowWord(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

func policyShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "The rules in force here, as they were signed",
		Long: `Prints the policy beside the mesh credential, or that of --policy; with --dir that of its node if
it has learnt a newer one. What is printed can be changed and applied.`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.statute()
			if err != nil {
				return err
			}
			if s.inUse == nil {
				a.events.emit("policy", policyEvent{Path: s.path, Default: "allow"})
				a.note("no policy in %s: every node of the mesh may do everything", s.path)
				return nil
			}
			e := policyEventOf(s.inUse, s.from)
			e.Text = string(s.inUse.Text())
			a.events.emit("policy", e)
			a.note("policy version %d of %s", e.Version, s.from)
			return a.line(strings.TrimSuffix(e.Text, "\n"))
		},
	}
}

func policyTest(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test WHO VERB NAME",
		Short: "Whether WHO may VERB the queue, channel or service NAME, and which rule says so",
		Long: `WHO is the name of a node, or what rules may speak of, separated by commas: node=bob,role=sensor.
VERB is push, pull, pub, sub, req or rep. The other end of a pipe must be allowed its verb as well.
Exits with 0 if it is allowed and with 4 if it is denied.`,
		Example: `  peermesh policy test bob push jobs
  peermesh policy test node=s-1,role=sensor,role=door pub telemetry.temp --file draft`,
		Args: arguments(3, 3, "WHO, VERB and NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return a.tryPolicy(args[0], args[1], args[2], file) },
	}
	cmd.Flags().StringVar(&file, "file", "", "try this `file`, signed or not, instead of the policy in force")
	return cmd
}

// verdictEvent is what policy test found.
type verdictEvent struct {
	Allow   bool   `json:"allow"`
	Rule    string `json:"rule"` // "default": none fits; "": there is no policy
	Line    int    `json:"line"`
	Version uint64 `json:"version"`
}

func (a *app) tryPolicy(who, verb, name, file string) error {
	subject, err := a.subjectOf(who)
	if err != nil {
		return err
	}
	kind, err := policy.ParseVerb(verb)
	if err != nil {
		return usagef("%w", err)
	}
	if err := checkName(kind, name); err != nil {
		return err
	}
	p, err := a.policyToTry(file)
	if err != nil {
		return err
	}
	d := p.Decide(subject, kind, name)
	if reason, revoked := p.Revoked(subject.ID); revoked {
		return failf(exitRefused, "node %v is revoked: %s", subject.ID, reason)
	}
	a.events.emit("verdict", verdictEvent{d.Allow, d.Rule, d.Line, d.Version})
	sentence := fmt.Sprintf("%s may %s %q: %v", who, verb, name, d)
	if d.Allow {
		return a.line(sentence)
	}
	return failf(exitRefused, "%s may not %s %q: %v", who, verb, name, d)
}

// policyToTry is that of a file, or the one in force; nil: none.
func (a *app) policyToTry(file string) (*policy.Policy, error) {
	if file != "" {
		return draftIn(file)
	}
	s, err := a.statute()
	if err != nil {
		return nil, err
	}
	return s.inUse, nil
}

// draftIn reads a policy that need not be signed.
func draftIn(file string) (*policy.Policy, error) {
	p, err := policy.ReadDraft(file)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return p, nil
}

// subjectOf reads WHO.
func (a *app) subjectOf(who string) (s policy.Subject, err error) {
	s.Namespace = a.global.namespace
	if !strings.Contains(who, "=") {
		s.Name = who
		return s, nil
	}
	for part := range strings.SplitSeq(who, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "node":
			s.Name = value
		case "namespace":
			s.Namespace = value
		case "role":
			s.Roles = append(s.Roles, value)
		case "id":
			if s.ID, err = identity.ParseID(value); err != nil {
				return s, usagef("%w", err)
			}
		default:
			return s, usagef("%q in WHO: write node=, namespace=, role= or id=", part)
		}
	}
	return s, nil
}

func policyApply(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "apply FILE",
		Short: "Check FILE, sign it with the mesh credential and put it in force",
		Long: `Checks FILE (- is stdin), gives it a version above the one in force and above its own, signs it
with the mesh credential and puts it in place. Running nodes that use that file have it within two
seconds and tell their peers; pipes that it denies are cut, what is queued for them stays queued.`,
		Args: arguments(1, 1, "one FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.readDraft(args[0])
			if err != nil {
				return err
			}
			s, err := a.statute()
			if err != nil {
				return err
			}
			return s.apply(a, args[0], text)
		},
	}
}

// readDraft reads a file or stdin, as far as a policy may be long.
func (a *app) readDraft(file string) ([]byte, error) {
	if file != "-" {
		p, err := draftIn(file)
		if err != nil {
			return nil, err
		}
		return p.Text(), nil
	}
	text, err := io.ReadAll(io.LimitReader(a.stdin, policy.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("stdin: %w", err)
	}
	return text, nil
}

// apply signs a text and puts it in place.
func (s *statute) apply(a *app, from string, text []byte) error {
	draft, err := policy.Parse(text)
	if err != nil {
		return usagef("%s:%w", from, err)
	}
	signed, err := policy.Sign(text, s.mesh, max(draft.Version(), s.inUse.Version())+1)
	if errors.Is(err, node.ErrNoMeshKey) {
		return err
	}
	if err != nil {
		return usagef("%s: %w", from, err)
	}
	if err := signed.Write(s.path); err != nil {
		return err
	}
	e := policyEventOf(signed, s.path)
	a.events.emit("policy", e)
	return a.line(fmt.Sprintf("policy version %d in %s: %d rules, default %s, %d nodes revoked", e.Version, e.Path, e.Rules, e.Default, e.Revoked))
}
