package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"peermesh/node"
)

// serveSight answers what the verbs that see ask a running node.
func serveSight(mux *http.ServeMux, s sight) {
	get := func(path string, f func(context.Context, func(string) string) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r.Context(), r.URL.Query().Get)
			answer(w, v, err)
		})
	}
	get("GET "+viewPath, func(ctx context.Context, q func(string) string) (any, error) { return s.look(ctx, q("node")) })
	get("GET "+topologyPath, func(ctx context.Context, _ func(string) string) (any, error) { return s.topology(ctx) })
	get("GET "+whyPath, func(ctx context.Context, q func(string) string) (any, error) {
		return s.why(ctx, q("node"), q("about"))
	})
	get("GET "+pathPath, func(ctx context.Context, q func(string) string) (any, error) { return s.path(ctx, q("node")) })
	get("POST "+pingPath, func(ctx context.Context, q func(string) string) (any, error) { return s.ping(ctx, q("node")) })
	mux.HandleFunc("GET "+followPath, func(w http.ResponseWriter, r *http.Request) { serveFollow(w, r, s) })
}

// followed is a line of what happens, or why there are no more.
type followed struct {
	node.News
	Err *controlError `json:"err,omitempty"`
}

func serveFollow(w http.ResponseWriter, r *http.Request, s sight) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	out := json.NewEncoder(w)
	if err := control.Flush(); err != nil { // so that the other side knows that it is heard
		return
	}
	err := s.follow(r.Context(), r.URL.Query().Get("node"), r.URL.Query().Get("logs") != "", func(news node.News) error {
		if err := out.Encode(followed{News: news}); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil {
		_ = out.Encode(followed{Err: &controlError{err.Error(), exitCode(err)}}) // to one who has gone nothing can be said
	}
}

// follow reads what happens until ctx ends, the node closes, or tell fails.
func (c *controlClient) follow(ctx context.Context, path string, tell func(node.News) error) error {
	res, err := c.get(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var l followed
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the node that was asked ended: %w", err)
		case l.Err != nil:
			return failf(l.Err.Exit, "%s", l.Err.Error)
		}
		if err := tell(l.News); err != nil {
			return err
		}
	}
}
