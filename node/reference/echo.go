package reference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Echo sends requests to and fro. Its methods are for one goroutine.
type Echo struct {
	st   stream
	stop func() bool
	back []byte
}

// Echo opens a stream to the first server for requests. ctx bounds all of them.
func (c *Client) Echo(ctx context.Context) (*Echo, error) {
	st, stop, err := open(ctx, c.links[0], echoStream)
	if err != nil {
		return nil, err
	}
	return &Echo{st: st, stop: stop}, nil
}

// Do sends a request and blocks until all of it has come back.
func (e *Echo) Do(request []byte) error {
	if _, err := e.st.Write(request); err != nil {
		return fmt.Errorf("reference: echo: %w", err)
	}
	if len(e.back) != len(request) {
		e.back = make([]byte, len(request))
	}
	if _, err := io.ReadFull(e.st, e.back); err != nil {
		return fmt.Errorf("reference: echo: %w", err)
	}
	if !bytes.Equal(e.back, request) {
		return errors.New("reference: the echo differs from the request")
	}
	return nil
}

// Close ends the stream.
func (e *Echo) Close() error {
	e.stop()
	return e.st.Close()
}
