package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// maxConfig bounds a configuration file: a dozen keys and a list of peers.
const maxConfig = 1 << 20

// fileSettings is what a configuration file may hold: the global flags under their
// names. What it does not mention is nil.
type fileSettings struct {
	Dir       *string  `yaml:"dir"`
	SpoolKey  *string  `yaml:"spool-key-file"`
	Mesh      *string  `yaml:"mesh"`
	Policy    *string  `yaml:"policy"`
	Name      *string  `yaml:"name"`
	Namespace *string  `yaml:"namespace"`
	Role      []string `yaml:"role"`
	Listen    *string  `yaml:"listen"`
	Peer      []string `yaml:"peer"`
	NoMDNS    *bool    `yaml:"no-mdns"`
	UDPOnly   *bool    `yaml:"udp-only"`
	Poll      *string  `yaml:"poll"`
	Stripes   *int     `yaml:"stripes"`
	Timeout   *string  `yaml:"timeout"`
	JSON      *bool    `yaml:"json"`
	Quiet     *bool    `yaml:"quiet"`
	LogLevel  *string  `yaml:"log-level"`

	Sections sections `yaml:",inline"`
}

// readConfig reads a configuration file into flag values. No path is no file.
func readConfig(path string) (map[string][]string, error) {
	data, err := readConfigFile(path)
	if err != nil || data == nil {
		return nil, err
	}
	values, err := parseConfig(data)
	if err != nil {
		return nil, usagef("configuration file %s%w", path, err)
	}
	return values, nil
}

// readSections reads what of the file concerns the sidecar.
func readSections(path string) (sections, error) {
	data, err := readConfigFile(path)
	if err != nil || data == nil {
		return sections{}, err
	}
	s, err := decodeConfig(data)
	if err != nil {
		return sections{}, usagef("configuration file %s%w", path, err)
	}
	return s.Sections, nil
}

func readConfigFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("configuration file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, usagef("configuration file: %w", err)
	}
	if len(data) > maxConfig {
		return nil, usagef("configuration file %s: more than %d bytes", path, maxConfig)
	}
	return data, nil
}

// parseConfig reads YAML into flag values. Its errors go on where the file's name
// ends: with a colon and, where it is known, the line.
func parseConfig(data []byte) (map[string][]string, error) {
	s, err := decodeConfig(data)
	if err != nil {
		return nil, err
	}
	values := map[string][]string{"peer": s.Peer, "role": s.Role}
	for name, v := range map[string]*string{"dir": s.Dir, "spool-key-file": s.SpoolKey, "mesh": s.Mesh, "policy": s.Policy, "name": s.Name, "namespace": s.Namespace,
		"listen": s.Listen, "poll": s.Poll, "timeout": s.Timeout, "log-level": s.LogLevel} {
		if v != nil {
			values[name] = []string{*v}
		}
	}
	for name, v := range map[string]*bool{"no-mdns": s.NoMDNS, "udp-only": s.UDPOnly, "json": s.JSON, "quiet": s.Quiet} {
		if v != nil {
			values[name] = []string{strconv.FormatBool(*v)}
		}
	}
	if s.Stripes != nil {
		values["stripes"] = []string{strconv.Itoa(*s.Stripes)}
	}
	return values, nil
}

func decodeConfig(data []byte) (s fileSettings, err error) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)), yaml.Strict())
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, atLine(err)
	}
	if err := dec.Decode(&fileSettings{}); !errors.Is(err, io.EOF) {
		return s, errors.New(": only one YAML document, please")
	}
	return s, nil
}

// atLine makes one line of the YAML library's picture of an error.
func atLine(err error) error {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		return fmt.Errorf(": %s", oneLine(err.Error()))
	}
	return fmt.Errorf(":%d: %s", e.GetToken().Position.Line, oneLine(e.GetMessage()))
}
