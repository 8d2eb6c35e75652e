package identity

import (
	"fmt"
	"strings"
	"unicode"
)

// Code says in one word why a link was refused. Both sides of a refused link report the same code, and scripts rely
// on the spelling.
type Code string

// The codes of a refused link. Verify gives the first four; the others belong to the layers that speak after it.
const (
	CodeMesh        Code = "mesh"        // a member of another mesh
	CodeCertificate Code = "certificate" // no certificate, or none that this mesh could have signed for a node
	CodeExpired     Code = "expired"     // a good certificate outside its dates
	CodeIdentity    Code = "identity"    // it claims to be a node whose key it does not hold
	CodeVersion     Code = "version"     // no protocol version in common
	CodePolicy      Code = "policy"      // the policy forbids the link
	CodeDuplicate   Code = "duplicate"   // another process runs with the same node key
	CodeIncarnation Code = "incarnation" // a later incarnation of this node has been seen
	CodeSuperseded  Code = "superseded"  // another link between the same two nodes stays
)

// Refusal is a link that one side would not have. It is the error of [Credentials.Verify], and what a node makes of the
// close frame when the other side refused.
type Refusal struct {
	Code   Code
	Reason string // a sentence for people: what was seen and what was expected
	Remote bool   // the other side refused us; Reason is then its words, not to be trusted to be printable
}

// maxPrinted bounds how much of a remote reason gets into an error message.
const maxPrinted = 512

// Error names the side that refused, the code and the reason. Whatever a remote side put into them comes out bounded
// and printable, so the text may go to a log or a terminal.
func (r *Refusal) Error() string {
	who := "refused"
	if r.Remote {
		who = "refused by the other side"
	}
	return fmt.Sprintf("%s (%s): %s", who, printable(string(r.Code)), printable(r.Reason))
}

// Is reports whether target is a Refusal with the same code, whatever its reason and side:
// errors.Is(err, &Refusal{Code: CodeMesh}).
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && other.Code == r.Code
}

// refuse makes the refusal of this side.
func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// printable cuts s to maxPrinted bytes and replaces what a terminal could take for a command.
func printable(s string) string {
	cut := ""
	if len(s) > maxPrinted {
		s, cut = s[:maxPrinted], "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s) + cut
}
