package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"peermesh/node"
)

// maxOrder bounds the line that holds an order: some thousand seqs.
const maxOrder = 1 << 16

// serveTending carries out an order in the node that has the store open. An import says
// nothing before it has read everything: HTTP answers when it has been asked.
func serveTending(w http.ResponseWriter, r *http.Request, s *node.Spool) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	out := json.NewEncoder(w)
	err := obeyTending(r.Context(), r.Body, s, func(l line) error {
		if err := out.Encode(l); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil {
		_ = out.Encode(line{Err: &controlError{err.Error(), exitCode(err)}}) // to one who has gone nothing can be said
	}
}

func obeyTending(ctx context.Context, body io.Reader, s *node.Spool, say func(line) error) error {
	lines := bufio.NewReaderSize(body, maxOrder)
	text, err := lines.ReadSlice('\n')
	if err != nil {
		return usagef("order: %w", err)
	}
	var o tending
	if err := json.Unmarshal(text, &o); err != nil {
		return usagef("order: %w", err)
	}
	o.messages = lines
	return o.do(ctx, s, say)
}

// tend has the running node carry out an order.
func (c *controlClient) tend(ctx context.Context, o *tending, say func(line) error) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if len(text) >= maxOrder {
		return usagef("too many seqs at once; give fewer than %d", maxOrder/20)
	}
	var body io.Reader = bytes.NewReader(append(text, '\n'))
	if o.messages != nil {
		body = io.MultiReader(body, o.messages)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+tendPath, body)
	if err != nil {
		return err
	}
	res, err := c.client.Do(req)
	var refused *net.OpError
	switch {
	case errors.As(err, &refused):
		return failf(exitStorage, "--dir %s is in use by a process that cannot be asked; end that first", c.dir)
	case err != nil:
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("control socket of %s: %s; is that process of another version? peermesh version", c.dir, res.Status)
	}
	return readTending(res.Body, say)
}

// readTending reads what came of an order.
func readTending(r io.Reader, say func(line) error) error {
	for dec := json.NewDecoder(r); ; {
		var l line
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the node that was asked ended before it was done: %w", err)
		case l.Err != nil:
			return failf(l.Err.Exit, "%s", l.Err.Error)
		}
		if err := say(l); err != nil {
			return err
		}
	}
}
