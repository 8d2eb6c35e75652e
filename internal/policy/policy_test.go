package policy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"

	"pgregory.net/rapid"
)

const bob26 = "bbbbbbbbbbbbbbbbbbbbbbbbbe"

func bobID(t testing.TB) identity.ID {
	t.Helper()
	id, err := identity.ParseID(bob26)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func parse(t testing.TB, lines ...string) *Policy {
	t.Helper()
	p, err := Parse([]byte(header + "\n" + strings.Join(lines, "\n") + "\n"))
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return p
}

func newMesh(t testing.TB) *identity.Mesh {
	t.Helper()
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDecisions(t *testing.T) {
	p := parse(t, "default deny",
		"rule sensors allow role=sensor verb=push,pub name=telemetry.>",
		"rule workers allow node=worker-* verb=pull,req",
		"rule bob     allow id="+bob26+" name=jobs,prefix:log",
		`rule office  allow node="my node" namespace=prod`,
		"rule never   deny  node=worker-evil*",
		"rule quiet   deny  role=sensor verb=push name=telemetry.secret",
		"rule late    allow node=worker-evil*",
	)
	bob := bobID(t)
	for _, c := range []struct {
		who  Subject
		verb wire.Kind
		name string
		want bool
		rule string
	}{
		{Subject{Roles: []string{"a", "sensor"}}, wire.Push, "telemetry.temp", true, "sensors"},
		{Subject{Roles: []string{"a", "sensor"}}, wire.Pub, "telemetry.a.b", true, "sensors"},
		{Subject{Roles: []string{"sensor"}}, wire.Push, "telemetry", false, "default"},
		{Subject{Roles: []string{"sensor"}}, wire.Push, "telemetry.secret", false, "quiet"},
		{Subject{Roles: []string{"sensor"}}, wire.Pub, "telemetry.secret", true, "sensors"},
		{Subject{Roles: []string{"sensor"}}, wire.Pull, "telemetry.temp", false, "default"},
		{Subject{Roles: []string{"sensors"}}, wire.Push, "telemetry.temp", false, "default"},
		{Subject{Name: "sensor"}, wire.Push, "telemetry.temp", false, "default"},
		{Subject{Name: "worker-1"}, wire.Pull, "anything", true, "workers"},
		{Subject{Name: "worker-"}, wire.Req, "anything", true, "workers"},
		{Subject{Name: "worker"}, wire.Pull, "anything", false, "default"},
		{Subject{Name: "worker-1"}, wire.Rep, "anything", false, "default"},
		{Subject{Name: "worker-evil"}, wire.Pull, "anything", false, "never"},
		{Subject{Name: "x", ID: bob}, wire.Rep, "jobs", true, "bob"},
		{Subject{Name: "x", ID: bob}, wire.Rep, "log-7", true, "bob"},
		{Subject{Name: "x", ID: bob}, wire.Rep, "jobs.high", false, "default"},
		{Subject{Name: "bob"}, wire.Rep, "jobs", false, "default"},
		{Subject{Name: "my node", Namespace: "prod"}, wire.Rep, "x", true, "office"},
		{Subject{Name: "my node", Namespace: "test"}, wire.Rep, "x", false, "default"},
		{Subject{Name: "my", Namespace: "prod"}, wire.Rep, "x", false, "default"},
	} {
		d := p.Decide(c.who, c.verb, c.name)
		if d.Allow != c.want || d.Rule != c.rule {
			t.Errorf("%+v %v %q: %v by %q, want %v by %q", c.who, c.verb, c.name, d.Allow, d.Rule, c.want, c.rule)
		}
		if line := strings.Split(string(p.Text()), "\n")[d.Line-1]; !strings.Contains(line, d.Rule) {
			t.Errorf("rule %q said to be in line %d: %q", d.Rule, d.Line, line)
		}
	}
}

func TestNoPolicyAllowsEverythingAndRevokesNobody(t *testing.T) {
	var p *Policy
	if d := p.Decide(Subject{Name: "x"}, wire.Push, "jobs"); !d.Allow || d.Rule != "" {
		t.Errorf("decided %+v", d)
	}
	if _, revoked := p.Revoked(identity.ID{1}); revoked || p.Version() != 0 || !p.Allows() {
		t.Errorf("revoked %v, version %d", revoked, p.Version())
	}
}

func TestOfSeveralRulesThatFitTheFirstOfTheWinningEffectIsNamed(t *testing.T) {
	p := parse(t, "default deny", "rule a allow", "rule b allow", "rule c deny name=x", "rule d deny name=x")
	for name, want := range map[string]string{"y": "a", "x": "c"} {
		if d := p.Decide(Subject{}, wire.Push, name); d.Rule != want {
			t.Errorf("%s decided by %q, want %q", name, d.Rule, want)
		}
	}
}

var (
	genNode = rapid.SampledFrom([]string{"ann", "bob", "carl"})
	genRole = rapid.SampledFrom([]string{"r", "s"})
	genNS   = rapid.SampledFrom([]string{"default", "prod"})
	genName = rapid.SampledFrom([]string{"jobs", "a.b", "a"})
	genVerb = rapid.SampledFrom([]wire.Kind{wire.Push, wire.Pull, wire.Rep})
	genWho  = rapid.Custom(func(t *rapid.T) Subject {
		return Subject{Name: genNode.Draw(t, "node"), Namespace: genNS.Draw(t, "ns"), Roles: rapid.SliceOfN(genRole, 0, 2).Draw(t, "roles")}
	})
	genRuleBody = rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "effect")
		for key, gen := range map[string]*rapid.Generator[string]{
			"node": rapid.SampledFrom([]string{"ann", "b*", "ann,carl"}), "role": genRole, "namespace": genNS,
			"verb": rapid.SampledFrom([]string{"push", "push,pull"}), "name": rapid.SampledFrom([]string{"jobs", "a.*", "a.>,a", ">"}),
		} {
			if rapid.IntRange(0, 2).Draw(t, "has "+key) == 0 {
				s += " " + key + "=" + gen.Draw(t, key)
			}
		}
		return s
	})
)

// Whatever the rules: their order means nothing, a further deny allows nothing that was not allowed, and a further
// allow changes nothing that a deny has decided.
func TestDenyWinsInEveryOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bodies := rapid.SliceOfN(genRuleBody, 0, 6).Draw(t, "rules")
		head := "default " + rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "default")
		var rules []string
		for i, b := range bodies {
			rules = append(rules, fmt.Sprintf("rule r%d %s", i, b))
		}
		who, verb, name := genWho.Draw(t, "who"), genVerb.Draw(t, "verb"), genName.Draw(t, "name")
		decide := func(rules []string) Decision {
			p, err := Parse([]byte(header + "\n" + head + "\n" + strings.Join(rules, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			return p.Decide(who, verb, name)
		}
		was := decide(rules)
		shuffled := append([]string(nil), rules...)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := decide(shuffled); got.Allow != was.Allow {
			t.Fatalf("in another order: %+v, was %+v", got, was)
		}
		if got := decide(append(rules, "rule further deny "+strings.SplitN(genRuleBody.Draw(t, "deny")+" ", " ", 2)[1])); got.Allow && !was.Allow {
			t.Fatalf("one deny more: %+v, was %+v", got, was)
		}
		if got := decide(append(rules, "rule further allow")); !was.Allow && was.Rule != byDefault && got != was {
			t.Fatalf("one allow more: %+v, was %+v", got, was)
		}
		if got := decide(append(rules, "rule further deny")); got.Allow {
			t.Fatalf("everything denied: %+v", got)
		}
	})
}

func TestSyntaxErrorsNameTheirLine(t *testing.T) {
	many := func(line string, n int) (all string) {
		for i := range n {
			all += fmt.Sprintf(line, i)
		}
		return all
	}
	good := header + "\ndefault deny\n"
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"", 1, "begins with"},
		{"# nothing\n\n", 2, "begins with"},
		{"default deny\n", 1, "begins with"},
		{"peermesh-policy 2\ndefault deny\n", 1, "begins with"},
		{header + "\n", 1, "default allow or default deny is missing"},
		{good + "default allow\n", 3, "stands in line 2 already"},
		{header + "\ndefault maybe\n", 2, "neither allow nor deny"},
		{header + "\ndefault\n", 2, "has one value"},
		{good + "rules a deny\n", 3, "none of rule"},
		{good + "rule a\n", 3, "write: rule ID"},
		{good + "rule default deny\n", 3, "no rule is called default"},
		{good + "rule a/b deny\n", 3, "letters, digits"},
		{good + "rule " + strings.Repeat("a", 65) + " deny\n", 3, "letters, digits"},
		{good + "rule a denied\n", 3, "neither allow nor deny"},
		{good + "rule a deny\n\nrule a allow\n", 5, `a rule "a" stands in line 3 already`},
		{good + "rule a deny bob\n", 3, `"bob" is no condition`},
		{good + "rule a deny nodes=bob\n", 3, "none of node"},
		{good + "rule a deny node=\n", 3, "a value is missing"},
		{good + "rule a deny node=,\n", 3, "a value is missing"},
		{good + "rule a deny node=a,\n", 3, "a value is missing"},
		{good + "rule a deny node=a node=b\n", 3, "node stands there twice"},
		{good + `rule a deny node="a` + "\n", 3, "not closed"},
		{good + `rule a deny node=""` + "\n", 3, "is empty"},
		{good + `rule a deny node="\x00"` + "\n", 3, "does not print"},
		{good + `rule a deny node="a"b` + "\n", 3, "a comma or a space belongs"},
		{good + `rule "a" deny` + "\n", 3, "belong behind a key"},
		{good + "rule a deny =b\n", 3, "belong behind a key"},
		{good + "rule a deny verb=take\n", 3, "none of the verbs"},
		{good + "rule a deny name=a..b\n", 3, "empty token"},
		{good + "rule a deny id=bob\n", 3, "node id"},
		{good + "rule a deny node=" + strings.Repeat("a,", 64) + "a\n", 3, "more than 64 values"},
		{good + "revoke bob\n", 3, "node id"},
		{good + "revoke\n", 3, "write: revoke"},
		{good + "revoke " + bob26 + "\nrevoke " + bob26 + "\n", 4, "already"},
		{good + "revoke " + bob26 + " why=x\n", 3, "is no reason"},
		{good + "revoke " + bob26 + ` reason="` + strings.Repeat("x", 129) + "\"\n", 3, "is no reason"},
		{good + "version 0\n", 3, "whole number"},
		{good + "version -1\n", 3, "whole number"},
		{good + "version 9223372036854775808\n", 3, "whole number"},
		{good + "mesh blue\n", 3, "mesh id"},
		{good + "signature ????\n", 3, "not base64"},
		{good + "signature AAAA", 3, "cut off"},
		{good + "signature AAAA\n", 3, "names its mesh and its version"},
		{good + "mesh " + bob26 + "\nversion 1\nsignature AAAA\nrule a deny\n", 6, "nothing may follow"},
		{good + "rule a deny \xff\n", 3, "not UTF-8"},
		{good + "rule a deny\r\n", 3, "CR LF"},
		{good + "rule a deny # \x1b[31m\n", 3, "does not print"},
		{good + "rule a deny # \u202e\n", 3, "does not print"},
		{good + many("rule r%d deny\n", MaxRules+1), MaxRules + 3, "more than 512 rules"},
		{strings.Repeat("#", MaxBytes+1), 1, "at most"},
	} {
		p, err := Parse([]byte(c.text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Line != c.line || !strings.Contains(syntax.Text, c.want) {
			t.Errorf("%.80q: %v, %v; want line %d and %q", c.text, p, err, c.line, c.want)
		}
	}
}

func TestRevokedNodesAreBounded(t *testing.T) {
	text := Empty()
	for i := range MaxRevoked {
		text = fmt.Appendf(text, "revoke %v\n", identity.ID{byte(i), byte(i >> 8), 1})
	}
	if p, err := Parse(text); err != nil || p.RevokedNodes() != MaxRevoked {
		t.Fatalf("%v", err)
	}
	if _, err := Parse(fmt.Appendf(text, "revoke %v\n", identity.ID{2})); err == nil || !strings.Contains(err.Error(), "more than 1024") {
		t.Errorf("one more: %v", err)
	}
}

func TestASignedPolicyKeepsItsCommentsAndDecisions(t *testing.T) {
	m := newMesh(t)
	draft := "# ours\n\n" + header + " # the language\ndefault deny\nrule a allow node=bob # he may\n"
	p, err := Sign([]byte(draft), m, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(m.Public()); err != nil || p.Version() != 7 || p.Mesh() != m.ID() || p.Rules() != 1 || p.Allows() {
		t.Errorf("%v, version %d, mesh %v", err, p.Version(), p.Mesh())
	}
	for _, comment := range []string{"# ours", "# the language", "# he may"} {
		if !bytes.Contains(p.Text(), []byte(comment)) {
			t.Errorf("%q is gone:\n%s", comment, p.Text())
		}
	}
	// A signed text is a draft too: what was changed in it is signed anew.
	again, err := Sign(bytes.Replace(p.Text(), []byte("node=bob"), []byte("node=eve"), 1), m, 8)
	if err != nil {
		t.Fatal(err)
	}
	if again.Version() != 8 || bytes.Count(again.Text(), []byte("\nversion ")) != 1 || bytes.Count(again.Text(), []byte("signature ")) != 1 {
		t.Errorf("signed again:\n%s", again.Text())
	}
	if d := again.Decide(Subject{Name: "eve"}, wire.Push, "x"); !d.Allow {
		t.Errorf("eve: %+v", d)
	}
}

func TestWhatTheMeshHasNotSignedIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	p, err := Sign([]byte(header+"\ndefault deny\nrule a deny node=bob\n"), m, 3)
	if err != nil {
		t.Fatal(err)
	}
	draft := parse(t, "default deny")
	if err := draft.Verify(m.Public()); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a draft: %v", err)
	}
	if err := p.Verify(other.Public()); !errors.Is(err, ErrForeign) {
		t.Errorf("another mesh's: %v", err)
	}
	renamed, err := Parse(bytes.Replace(p.Text(), []byte(m.ID().String()), []byte(other.ID().String()), 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := renamed.Verify(other.Public()); !errors.Is(err, ErrForged) {
		t.Errorf("another mesh's under this one's name: %v", err)
	}
	// Whatever byte is changed: it cannot be read, or it is not taken.
	for i := range p.Text() {
		text := bytes.Clone(p.Text())
		text[i] ^= 1
		if q, err := Parse(text); err == nil && q.Verify(m.Public()) == nil {
			t.Errorf("byte %d changed, and still good:\n%s", i, text)
		}
	}
	for n := range p.Text() {
		if q, err := Parse(p.Text()[:n]); err == nil && q.Verify(m.Public()) == nil {
			t.Errorf("good after %d of %d bytes", n, len(p.Text()))
		}
	}
}

func TestASignatureForAnotherPurposeIsNone(t *testing.T) {
	m := newMesh(t)
	p, err := Sign(Empty(), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	if p.signature, err = m.Sign("something else", p.signed); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(m.Public()); !errors.Is(err, ErrForged) {
		t.Errorf("%v", err)
	}
	if _, err := m.Sign("", nil); err == nil {
		t.Error("signed without a purpose")
	}
}

func TestRevokeAddsOneLine(t *testing.T) {
	m, bob := newMesh(t), bobID(t)
	p, err := Sign(Empty(), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range [][]byte{Empty(), p.Text(), []byte(header + "\ndefault allow")} {
		text, err := Revoke(from, bob, `lost "it"`)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Sign(text, m, 2)
		if err != nil {
			t.Fatal(err)
		}
		if reason, revoked := q.Revoked(bob); !revoked || reason != `lost "it"` {
			t.Errorf("revoked %v, %q:\n%s", revoked, reason, q.Text())
		}
		if _, revoked := q.Revoked(identity.ID{9}); revoked {
			t.Error("another node is revoked too")
		}
		if _, err := Revoke(q.Text(), bob, ""); err == nil {
			t.Error("revoked twice")
		}
	}
}

func TestFiles(t *testing.T) {
	m := newMesh(t)
	dir := t.TempDir()
	path := Beside(filepath.Join(dir, "mesh.pem"))
	if path != filepath.Join(dir, "mesh.policy") || Beside("x") != "x.policy" {
		t.Errorf("beside: %s, %s", path, Beside("x"))
	}
	if _, err := Read(path, m.Public()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for version := uint64(1); version < 3; version++ {
		p, err := Sign(Empty(), m, version)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Write(path); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path, m.Public()); err != nil || got.Version() != version {
			t.Errorf("read %v, %v", got, err)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("%v in the directory, %v", all, err)
	}
	if err := os.WriteFile(path, []byte(header+"\ndefault deny\nrule\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, m.Public()); err == nil || !strings.HasPrefix(err.Error(), path+":3: ") {
		t.Errorf("a bad file: %v, want its name and line", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#"), MaxBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, m.Public()); err == nil {
		t.Error("a file without end was read")
	}
	p, err := Sign(Empty(), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(filepath.Join(dir, "missing", "x")); err == nil {
		t.Error("written into a directory that is not there")
	}
}

// Any text is refused with a line of its own, or is a policy that can be signed, means the same then, and decides.
func FuzzParse(f *testing.F) {
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign([]byte(header+"\ndefault deny\nrule a allow node=\"my node\",b* role=r verb=push name=a.>,prefix:x # c\nrevoke "+bob26+" reason=\"x\"\n"), m, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed.Text())
	f.Add(Empty())
	f.Add([]byte(header + "\ndefault deny\nrule a allow node=,\"\n"))
	who := Subject{Name: "b", Roles: []string{"r"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		var syntax *SyntaxError
		if err != nil {
			if !errors.As(err, &syntax) || syntax.Line < 1 || syntax.Line > bytes.Count(text, []byte("\n"))+1 {
				t.Fatalf("%v", err)
			}
			return
		}
		if p.signature != nil && p.Verify(m.Public()) == nil && !bytes.Equal(text, signed.Text()) {
			t.Fatalf("forged:\n%s", text)
		}
		q, err := Sign(text, m, 5)
		if err != nil {
			if len(text) < MaxBytes-512 {
				t.Fatalf("cannot be signed: %v", err)
			}
			return
		}
		if a, b := p.Decide(who, wire.Push, "a.b"), q.Decide(who, wire.Push, "a.b"); a.Allow != b.Allow || a.Rule != b.Rule {
			t.Fatalf("decides %+v, signed %+v", a, b)
		}
		if p.RevokedNodes() != q.RevokedNodes() || p.Rules() != q.Rules() {
			t.Fatal("signed, it has other rules")
		}
	})
}

// The example of the guide is a policy, and does what it says there.
func TestTheGuidesExampleHolds(t *testing.T) {
	guide, err := os.ReadFile("../../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```policy\n")
	text, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no policy in the guide")
	}
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who  Subject
		verb wire.Kind
		name string
		rule string
	}{
		{Subject{Roles: []string{"sensor"}}, wire.Push, "telemetry.temp", "sensors"},
		{Subject{Roles: []string{"sensor"}}, wire.Push, "telemetry.secret", "not-here"},
		{Subject{Roles: []string{"ops"}, Namespace: "default"}, wire.Sub, "anything", "ops"},
		{Subject{Name: "night shift, basel"}, wire.Pull, "log-3", "spare"},
		{Subject{Name: "worker-9"}, wire.Push, "jobs", "default"},
	} {
		if d := p.Decide(c.who, c.verb, c.name); d.Rule != c.rule {
			t.Errorf("%+v %v %q: rule %q, want %q", c.who, c.verb, c.name, d.Rule, c.rule)
		}
	}
	if p.RevokedNodes() != 1 || p.Rules() != 6 {
		t.Errorf("%d rules, %d revoked", p.Rules(), p.RevokedNodes())
	}
}
