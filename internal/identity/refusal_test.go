package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRefusalsMatchByCodeAlone(t *testing.T) {
	err := fmt.Errorf("node: dial: %w", &Refusal{Code: CodeMesh, Reason: "of another mesh", Remote: true})
	if !errors.Is(err, &Refusal{Code: CodeMesh}) {
		t.Errorf("%v does not match its own code", err)
	}
	if errors.Is(err, &Refusal{Code: CodeExpired, Reason: "of another mesh", Remote: true}) {
		t.Errorf("%v matches another code", err)
	}
	if errors.Is(err, errors.New("refused")) {
		t.Errorf("%v matches an error that is no refusal", err)
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != "of another mesh" || !refusal.Remote {
		t.Errorf("errors.As found %+v in %v", refusal, err)
	}
}

func TestRefusalsSayWhoRefused(t *testing.T) {
	local := refuse(CodeMesh, "of mesh %d", 7)
	if got, want := local.Error(), "refused (mesh): of mesh 7"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	remote := &Refusal{Code: CodePolicy, Reason: "no push here", Remote: true}
	if got, want := remote.Error(), "refused by the other side (policy): no push here"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestRemoteReasonsCannotReachTheTerminal(t *testing.T) {
	hostile := &Refusal{
		Code:   "\x1b[2J",
		Reason: "a\x00b\x1b[31mc\xff\r\n\u202e" + strings.Repeat("x", 1<<20),
		Remote: true,
	}
	got := hostile.Error()
	if len(got) > 3*maxPrinted {
		t.Errorf("the message has %d bytes", len(got))
	}
	const want = "refused by the other side (\ufffd[2J): a\ufffdb\ufffd[31mc\ufffd\ufffd\ufffd\ufffdxxx"
	if !strings.HasPrefix(got, want) {
		t.Errorf("Error() begins %q, want %q", got[:len(want)], want)
	}
}
