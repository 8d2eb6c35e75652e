package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// wrongValue is a key of the sidecar's configuration with a value that is not possible: "zeromq.endpoints[1].type".
type wrongValue struct {
	key string
	err error
}

func (w *wrongValue) Error() string { return w.key + ": " + w.err.Error() }
func (w *wrongValue) Unwrap() error { return w.err }

// wrong says what to write for a key instead.
func wrong(key, format string, args ...any) error {
	return usagef("%w", &wrongValue{key, fmt.Errorf(format, args...)})
}

// blame says where what is wrong in a plan was written: in the environment, or on which line of the file.
func (a *app) blame(err error) error {
	if err == nil {
		return nil
	}
	line := ""
	if w, ok := errors.AsType[*wrongValue](err); ok {
		key, _, _ := strings.Cut(w.key, "[")
		if variable := environmentName(strings.ReplaceAll(key, ".", "-")); a.environ[variable] != "" {
			return usagef("environment variable %s: %w", variable, err)
		}
		data, rerr := readConfigFile(a.global.config)
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		line = lineOf(data, w.key)
	}
	if a.global.config == "" {
		return err
	}
	return usagef("configuration file %s%s: %w", a.global.config, line, err)
}

// lineOf is ":" and the line of a YAML file on which a key's value stands, or if the key is not there what it would be part
// of. Empty: there is nothing of it.
func lineOf(data []byte, key string) string {
	for key != "" {
		if path, err := yaml.PathString("$." + key); err == nil {
			if n, err := path.ReadNode(strings.NewReader(string(data))); err == nil {
				return fmt.Sprintf(":%d", n.GetToken().Position.Line)
			}
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return ""
}
