package policy

import (
	"fmt"
	"slices"

	"peermesh/internal/identity"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
)

// Subject is a node as its certificate describes it.
type Subject struct {
	ID        identity.ID
	Name      string
	Namespace string
	Roles     []string
}

// Decision is a verdict and where it stands.
type Decision struct {
	Allow   bool
	Rule    string // the id of the rule that decided, or "default"; "" when there is no policy
	Line    int    // of the rule in the text
	Version uint64 // of the policy
}

// String names the rule, for the sentence that tells of the verdict.
func (d Decision) String() string {
	switch d.Rule {
	case "":
		return "no policy"
	case byDefault:
		return fmt.Sprintf("no rule fits and the default is %s, line %d of policy version %d", effectName(d.Allow), d.Line, d.Version)
	}
	return fmt.Sprintf("rule %q, line %d of policy version %d", d.Rule, d.Line, d.Version)
}

func effectName(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

// Decide says whether a node may take part in name as a verb. Of several rules of one effect that fit, the first one is
// named. It does not block, and does not look at revocations.
func (p *Policy) Decide(s Subject, verb wire.Kind, name string) Decision {
	if p == nil {
		return Decision{Allow: true}
	}
	d := Decision{Allow: p.allow, Rule: byDefault, Line: p.line, Version: p.version}
	for _, r := range p.rules {
		if d.Rule != byDefault && r.allow || !r.fits(s, verb, name) {
			continue // an allow that comes second says nothing new
		}
		d.Allow, d.Rule, d.Line = r.allow, r.id, r.line
		if !r.allow {
			break
		}
	}
	return d
}

// fits reports whether every condition of the rule holds.
func (r *rule) fits(s Subject, verb wire.Kind, name string) bool {
	return (len(r.ids) == 0 || slices.Contains(r.ids, s.ID)) &&
		(len(r.verbs) == 0 || slices.Contains(r.verbs, verb)) &&
		anyGlob(r.nodes, s.Name) && anyGlob(r.namespaces, s.Namespace) &&
		(len(r.roles) == 0 || slices.ContainsFunc(s.Roles, func(role string) bool { return anyGlob(r.roles, role) })) &&
		(len(r.names) == 0 || slices.ContainsFunc(r.names, func(p topic.Pattern) bool { return p.Match(name) }))
}

// anyGlob reports whether one of them matches; none at all match everything.
func anyGlob(globs []identity.Glob, s string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g identity.Glob) bool { return g.Match(s) })
}

// Revoked reports whether a node does not belong to the mesh any more, and why, if that was said.
func (p *Policy) Revoked(id identity.ID) (reason string, revoked bool) {
	if p == nil {
		return "", false
	}
	reason, revoked = p.revoked[id]
	return reason, revoked
}

// Version is the number of the policy; 0 for a draft and for none.
func (p *Policy) Version() uint64 {
	if p == nil {
		return 0
	}
	return p.version
}

// Mesh is the mesh that it is for; zero for a draft.
func (p *Policy) Mesh() identity.MeshID { return p.mesh }

// Allows reports what holds where no rule fits.
func (p *Policy) Allows() bool { return p == nil || p.allow }

// Rules counts the rules.
func (p *Policy) Rules() int { return len(p.rules) }

// RevokedNodes counts the nodes that are revoked.
func (p *Policy) RevokedNodes() int { return len(p.revoked) }

// Text is the text that was read. The caller must not change it.
func (p *Policy) Text() []byte { return p.text }
