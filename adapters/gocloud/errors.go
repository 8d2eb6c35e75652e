package gocloud

import (
	"context"
	"errors"
	"net"

	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"gocloud.dev/gcerrors"
)

// codes says what the errors of sockets are in the Go CDK; the first that matches counts.
var codes = []struct {
	err  error
	code gcerrors.ErrorCode
}{
	{socket.ErrUnknown, gcerrors.Unknown}, // also if a context ended the wait
	{context.Canceled, gcerrors.Canceled},
	{context.DeadlineExceeded, gcerrors.DeadlineExceeded},
	{net.ErrClosed, gcerrors.NotFound},
	{socket.ErrTooLarge, gcerrors.InvalidArgument},
	{socket.ErrQueueFull, gcerrors.ResourceExhausted},
	{spool.ErrSpoolFull, gcerrors.ResourceExhausted},
	{socket.ErrNoDir, gcerrors.FailedPrecondition},
	{socket.ErrNotDurable, gcerrors.FailedPrecondition},
	{socket.ErrStorage, gcerrors.FailedPrecondition},
	{patterns.ErrTaken, gcerrors.FailedPrecondition},
}

func code(err error) gcerrors.ErrorCode {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return gcerrors.Unknown
}
