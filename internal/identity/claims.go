package identity

import (
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Claims are what a certificate says about a node beside its id: labels that the mesh vouches for.
// Each is valid UTF-8 without control characters, at most 255 bytes. Namespace and Name may be empty.
type Claims struct {
	Namespace string   // the world within the mesh that the node lives in
	Name      string   // what people call the node; names may repeat
	Roles     []string // what policies speak of; a set, at most 16
}

const (
	maxLabelBytes = 255 // as long as a file name or a DNS name; escaped three times that, so three still fit a URI
	maxRoles      = 16  // policies speak of a few; it also bounds what a parser takes apart
)

// normal returns the claims as a certificate carries them: valid, with the roles sorted and each there once.
// The result shares nothing with c.
func (c Claims) normal() (Claims, error) {
	if err := checkLabel("namespace", c.Namespace); err != nil {
		return Claims{}, err
	}
	if err := checkLabel("name", c.Name); err != nil {
		return Claims{}, err
	}
	for _, role := range c.Roles {
		if role == "" {
			return Claims{}, fmt.Errorf("a role is empty")
		}
		if err := checkLabel("role", role); err != nil {
			return Claims{}, err
		}
	}
	c.Roles = slices.Clone(c.Roles)
	slices.Sort(c.Roles)
	c.Roles = slices.Compact(c.Roles)
	if len(c.Roles) > maxRoles {
		return Claims{}, fmt.Errorf("%d roles, at most %d are possible", len(c.Roles), maxRoles)
	}
	return c, nil
}

// checkLabel refuses labels that would not be one line of text everywhere they are shown.
func checkLabel(what, s string) error {
	if len(s) > maxLabelBytes {
		return fmt.Errorf("%s has %d bytes, at most %d are possible", what, len(s), maxLabelBytes)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %q is not valid UTF-8", what, s)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s %q contains the control character %U", what, s, r)
		}
	}
	return nil
}
