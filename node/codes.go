package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"peermesh/internal/identity"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

// Application error codes of a closed connection. A number is never used again for
// something else.
const (
	closeBye        quic.ApplicationErrorCode = 0
	closeProtocol   quic.ApplicationErrorCode = 1
	closeOverloaded quic.ApplicationErrorCode = 2
	closeRefused    quic.ApplicationErrorCode = 16 // + the code's place below
)

// refusalCodes gives each code its number; append only.
var refusalCodes = [...]identity.Code{identity.CodeMesh, identity.CodeCertificate, identity.CodeExpired, identity.CodeIdentity,
	identity.CodeVersion, identity.CodePolicy, identity.CodeDuplicate, identity.CodeIncarnation, identity.CodeSuperseded, codeSelf}

// codeSelf is a connection to oneself.
const codeSelf identity.Code = "self"

func closeCode(c identity.Code) quic.ApplicationErrorCode {
	for i, o := range refusalCodes {
		if o == c {
			return closeRefused + quic.ApplicationErrorCode(i)
		}
	}
	return closeProtocol
}

// noProtocol is the TLS alert of two sides without a common protocol version.
const noProtocol = quic.TransportErrorCode(0x100 + 120)

// explain turns a connection's error into a refusal if it is one, or into words a
// person can use.
func explain(err error) error {
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	var shake *quic.HandshakeTimeoutError
	var reset *quic.StatelessResetError
	var transport *quic.TransportError
	switch {
	case errors.As(err, &app):
		if i := app.ErrorCode - closeRefused; app.ErrorCode >= closeRefused && i < quic.ApplicationErrorCode(len(refusalCodes)) {
			return &identity.Refusal{Code: refusalCodes[i], Reason: clean(app.ErrorMessage), Remote: app.Remote}
		}
		if app.ErrorCode == closeBye {
			return errBye
		}
		return fmt.Errorf("closed (%d): %s", app.ErrorCode, clean(app.ErrorMessage))
	case errors.As(err, &idle):
		return errors.New("no sign of life for 10 s: the process, its host or the network is gone")
	case errors.As(err, &shake):
		return errors.New("no answer")
	case errors.As(err, &reset):
		return errors.New("its process was restarted")
	case errors.As(err, &transport) && transport.ErrorCode == noProtocol:
		return &identity.Refusal{Code: identity.CodeVersion, Reason: "no protocol version in common", Remote: transport.Remote}
	case errors.As(err, &transport) && transport.ErrorCode.IsCryptoError():
		var alert tls.AlertError
		if errors.As(err, &alert) {
			return &identity.Refusal{Code: identity.CodeCertificate, Reason: alert.Error(), Remote: transport.Remote}
		}
		return &identity.Refusal{Code: identity.CodeCertificate, Reason: clean(err.Error()), Remote: transport.Remote}
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer")
	case errors.Is(err, net.ErrClosed) || errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed):
		return errClosing
	}
	return err
}

// byeError is a link that one side ended in good order: what was held there is free
// at once.
type byeError struct{}

func (byeError) Error() string        { return "it left" }
func (byeError) Is(target error) bool { return target == socket.ErrGone }

var (
	errBye     = byeError{}
	errClosing = fmt.Errorf("this node closed: %w", net.ErrClosed)
	errCrowded = errors.New("too many handshakes at once")
)

// refusal returns the refusal in err, if there is one.
func refusal(err error) *identity.Refusal {
	var r *identity.Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// clean makes a remote text fit for a terminal and a log: bounded, one line, no
// control characters.
func clean(s string) string {
	if len(s) > 512 {
		s = s[:512]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || !unicode.IsPrint(r) && r != ' ' {
			return '?'
		}
		return r
	}, s)
}
