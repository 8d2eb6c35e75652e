package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"peermesh/internal/identity"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
)

// Bounds of a policy; a text above one is an error.
const (
	MaxBytes   = wire.MaxPolicy // it travels in one control frame
	MaxRules   = 512
	MaxRevoked = 1024
	maxID      = 64  // bytes of a rule's id
	maxValues  = 64  // of one condition
	maxReason  = 128 // bytes of why a node is revoked: it is told in the sentence of a refusal
)

// header is the first line; its number is the version of the language.
const header = "peermesh-policy 1"

// byDefault is the rule that a decision names when none fits.
const byDefault = "default"

// Policy is what a text says. It is immutable and safe for concurrent use; a nil *Policy allows everything.
type Policy struct {
	mesh      identity.MeshID // zero: a draft
	version   uint64          // likewise 0
	allow     bool            // what no rule speaks of
	line      int             // of the default
	rules     []rule
	revoked   map[identity.ID]string
	signature []byte
	signed    []byte // what the signature is of
	text      []byte
}

// rule narrows by what is not empty.
type rule struct {
	id         string
	line       int
	allow      bool
	nodes      []identity.Glob
	namespaces []identity.Glob
	roles      []identity.Glob
	ids        []identity.ID
	verbs      []wire.Kind
	names      []topic.Pattern
}

// SyntaxError is a text that is no policy.
type SyntaxError struct {
	Line int // from 1
	Text string
}

// Error begins with the line, so that it can follow the name of a file.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d: %s", e.Line, e.Text) }

// Parse reads a draft or a signed text, and checks everything but the signature; see [Policy.Verify]. The Policy keeps a
// copy of the text. The error is a *SyntaxError.
func Parse(text []byte) (*Policy, error) {
	if len(text) > MaxBytes {
		return nil, &SyntaxError{1, fmt.Sprintf("%d bytes, at most %d", len(text), MaxBytes)}
	}
	p := parser{Policy: Policy{revoked: map[identity.ID]string{}, text: slices.Clone(text)}, seen: map[string]int{}}
	for rest := string(p.text); rest != ""; {
		p.at++
		line, after, ended := strings.Cut(rest, "\n")
		if err := p.statement(line, len(p.text)-len(rest), ended); err != nil {
			return nil, &SyntaxError{p.at, err.Error()}
		}
		rest = after
	}
	if err := p.whole(); err != nil {
		return nil, &SyntaxError{max(p.at, 1), err.Error()}
	}
	return &p.Policy, nil
}

// parser reads line by line.
type parser struct {
	Policy
	at   int            // the line being read, from 1
	seen map[string]int // by statement, or rule and its id: the line it stood in
}

// statement reads the line that begins at an offset of the text.
func (p *parser) statement(line string, offset int, ended bool) error {
	if err := checkLine(line); err != nil {
		return err
	}
	words, err := split(line)
	if err != nil || len(words) == 0 {
		return err
	}
	if p.signature != nil {
		return errors.New("nothing may follow the signature")
	}
	if p.seen[""] == 0 {
		p.seen[""] = p.at
		if plain(words) != header {
			return fmt.Errorf("a policy begins with the line %q", header)
		}
		return nil
	}
	switch kind, rest := words[0].text, words[1:]; kind {
	case "rule":
		return p.rule(rest)
	case "revoke":
		return p.revoke(rest)
	case "mesh", "version", "default", "signature":
		if err := p.once(kind, "the statement "+kind); err != nil {
			return err
		}
		if len(rest) != 1 {
			return fmt.Errorf("%s has one value", kind)
		}
		return p.single(kind, rest[0].text, offset, ended)
	default:
		return fmt.Errorf("%q is none of rule, revoke, default, mesh, version and signature", kind)
	}
}

// single reads a statement of one value.
func (p *parser) single(kind, value string, offset int, ended bool) (err error) {
	switch kind {
	case "mesh":
		p.mesh, err = identity.ParseMeshID(value)
	case "version":
		if p.version, err = strconv.ParseUint(value, 10, 63); err != nil || p.version == 0 {
			err = fmt.Errorf("version %q: a whole number from 1 to %d", value, int64(math.MaxInt64))
		}
	case "default":
		p.line = p.at
		p.allow, err = effect(value)
	case "signature":
		if !ended {
			return errors.New("the line of the signature is cut off")
		}
		p.signed = p.text[:offset:offset]
		if p.signature, err = base64.RawStdEncoding.Strict().DecodeString(value); err != nil || len(p.signature) == 0 {
			err = errors.New("the signature is not base64")
		}
	}
	return err
}

// once refuses what was there before.
func (p *parser) once(key, what string) error {
	if line := p.seen[key]; line > 0 {
		return fmt.Errorf("%s stands in line %d already", what, line)
	}
	p.seen[key] = p.at
	return nil
}

func (p *parser) rule(words []word) error {
	if len(words) < 2 {
		return errors.New("write: rule ID allow|deny [CONDITION...]")
	}
	r := rule{id: words[0].text, line: p.at}
	if err := checkID(r.id); err != nil {
		return err
	}
	if err := p.once("rule "+r.id, fmt.Sprintf("a rule %q", r.id)); err != nil {
		return err
	}
	if len(p.rules) == MaxRules {
		return fmt.Errorf("more than %d rules", MaxRules)
	}
	var err error
	if r.allow, err = effect(words[1].text); err != nil {
		return err
	}
	had := map[string]bool{}
	for _, w := range words[2:] {
		if w.key == "" || len(w.values) == 0 {
			return fmt.Errorf("%q is no condition; write for example node=bob or verb=push,pull", w.text)
		}
		if had[w.key] {
			return fmt.Errorf("%s stands there twice; give it several values, separated by commas", w.key)
		}
		had[w.key] = true
		if err := r.condition(w.key, w.values); err != nil {
			return err
		}
	}
	p.rules = append(p.rules, r)
	return nil
}

// condition adds one that narrows the rule.
func (r *rule) condition(key string, values []string) error {
	if len(values) > maxValues {
		return fmt.Errorf("%s has more than %d values", key, maxValues)
	}
	for _, v := range values {
		var err error
		switch key {
		case "node":
			r.nodes = append(r.nodes, identity.Glob(v))
		case "namespace":
			r.namespaces = append(r.namespaces, identity.Glob(v))
		case "role":
			r.roles = append(r.roles, identity.Glob(v))
		case "id":
			err = add(&r.ids, v, identity.ParseID)
		case "verb":
			err = add(&r.verbs, v, ParseVerb)
		case "name":
			err = add(&r.names, v, topic.Parse)
		default:
			err = fmt.Errorf("%q is none of node, namespace, role, id, verb and name", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func add[T any](to *[]T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err != nil {
		return err
	}
	*to = append(*to, v)
	return nil
}

// ParseVerb reads a verb: push, pull, pub, sub, req or rep.
func ParseVerb(s string) (wire.Kind, error) {
	for k := wire.Push; k.Valid(); k++ {
		if k.String() == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%q is none of the verbs push, pull, pub, sub, req and rep", s)
}

func (p *parser) revoke(words []word) error {
	if len(words) == 0 || len(words) > 2 {
		return errors.New(`write: revoke NODE-ID [reason="..."]`)
	}
	id, err := identity.ParseID(words[0].text)
	if err != nil {
		return err
	}
	if err := p.once("revoke "+id.String(), "the node"); err != nil {
		return err
	}
	if len(p.revoked) == MaxRevoked {
		return fmt.Errorf("more than %d revoked nodes", MaxRevoked)
	}
	reason := ""
	if len(words) == 2 {
		w := words[1]
		if w.key != "reason" || len(w.values) != 1 || len(w.values[0]) > maxReason {
			return fmt.Errorf("%q is no reason; write reason=\"...\", at most %d bytes", w.text, maxReason)
		}
		reason = w.values[0]
	}
	p.revoked[id] = reason
	return nil
}

// whole checks what only the end of the text tells.
func (p *parser) whole() error {
	switch {
	case p.seen[""] == 0:
		return fmt.Errorf("a policy begins with the line %q", header)
	case p.seen["default"] == 0:
		return errors.New("the statement default allow or default deny is missing")
	case p.signature != nil && (p.mesh.IsZero() || p.version == 0):
		return errors.New("a signed policy names its mesh and its version")
	}
	return nil
}

func effect(s string) (allow bool, err error) {
	switch s {
	case "allow":
		return true, nil
	case "deny":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither allow nor deny", s)
}

// checkID holds a rule's id to what is one word everywhere it is shown.
func checkID(id string) error {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	switch {
	case id == byDefault:
		return fmt.Errorf("no rule is called %s: decisions name that where no rule fits", byDefault)
	case id == "" || len(id) > maxID || strings.ContainsFunc(id, bad):
		return fmt.Errorf("id %q: 1 to %d letters, digits, dots, hyphens and underscores", id, maxID)
	}
	return nil
}

// checkLine refuses what could not be one line of plain text in a terminal.
func checkLine(line string) error {
	if !utf8.ValidString(line) {
		return errors.New("the line is not UTF-8")
	}
	for _, r := range line {
		switch {
		case r == '\r':
			return errors.New("the line ends with CR LF; end lines with LF alone")
		case r != '\t' && (unicode.IsControl(r) || !unicode.IsPrint(r)):
			return fmt.Errorf("the line holds %U, which does not print", r)
		}
	}
	return nil
}

// word is a part of a line.
type word struct {
	text   string   // as it stands there
	key    string   // of key=values
	values []string // likewise, unquoted
}

// plain joins words as they stand.
func plain(words []word) string {
	var texts []string
	for _, w := range words {
		texts = append(texts, w.text)
	}
	return strings.Join(texts, " ")
}

// split takes a line apart.
func split(line string) (words []word, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return words, nil
		}
		var w word
		if w, line, err = next(line); err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

// next takes the first word of a line that begins with one.
func next(line string) (w word, rest string, err error) {
	end := strings.IndexAny(line, " \t=\"")
	switch {
	case end < 0:
		return word{text: line}, "", nil
	case end == 0 || line[end] == '"':
		return w, "", errors.New("= and quotes belong behind a key, as in node=\"my node\"")
	case line[end] != '=':
		return word{text: line[:end]}, line[end:], nil
	}
	w.key = line[:end]
	rest = line[end+1:]
	for {
		var v string
		if v, rest, err = value(rest); err != nil {
			return w, "", fmt.Errorf("%s=: %w", w.key, err)
		}
		w.values = append(w.values, v)
		if !strings.HasPrefix(rest, ",") {
			break
		}
		rest = rest[1:]
	}
	if rest != "" && !strings.ContainsRune(" \t", rune(rest[0])) {
		return w, "", fmt.Errorf("%s=: a comma or a space belongs before %q", w.key, rest)
	}
	w.text = line[:len(line)-len(rest)]
	return w, rest, nil
}

// value takes one value, which may be quoted.
func value(s string) (v, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,\"")
		if end < 0 {
			end = len(s)
		}
		if end == 0 {
			return "", "", errors.New("a value is missing")
		}
		return s[:end], s[end:], nil
	}
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", errors.New("a quote is not closed, or holds what Go does not allow in one")
	}
	if v, err = strconv.Unquote(quoted); err != nil {
		return "", "", err
	}
	if v == "" || !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", "", fmt.Errorf("%s is empty, or does not print", quoted)
	}
	return v, s[len(quoted):], nil
}
