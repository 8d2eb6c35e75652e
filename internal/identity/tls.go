package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// serverName is what every dialer asks for. Nodes are known by their keys, so no name needs to be told to strangers
// who listen; TLS wants one all the same.
const serverName = "peermesh"

// TLS returns a new configuration for both roles: TLS 1.3, both sides ask for a certificate, no session tickets and so
// no resumption and no 0-RTT. The protocol name alpn must be agreed on. Each handshake presents the certificate
// current at that moment.
//
// A finished handshake has proved that the other side holds the key of the certificate it shows, if it shows one,
// and nothing else: whoever uses the configuration must call [Credentials.Verify] first thing after it. The
// handshake itself fails only for what no honest peer does: another protocol or none, a version below 1.3,
// resumption, certificates that cannot be parsed.
func (c *Credentials) TLS(alpn string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: serverName,
		Time:       c.now,

		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current() },

		// Ask, do not judge: the verdict is Verify's, which can give its reason to both sides.
		ClientAuth:         tls.RequestClientCert,
		InsecureSkipVerify: true,

		SessionTicketsDisabled: true,
		VerifyConnection:       func(cs tls.ConnectionState) error { return checkProtocol(cs, alpn) },
	}
}

// checkProtocol runs inside every handshake, resumed ones included.
func checkProtocol(cs tls.ConnectionState, alpn string) error {
	switch {
	case cs.Version < tls.VersionTLS13:
		return fmt.Errorf("identity: handshake: %s, want TLS 1.3 or later", tls.VersionName(cs.Version))
	case cs.NegotiatedProtocol != alpn:
		return fmt.Errorf("identity: handshake: protocol %q, want %q", cs.NegotiatedProtocol, alpn)
	case cs.DidResume:
		return fmt.Errorf("identity: handshake: resumes an earlier session, which would pass by the checks of its certificate")
	}
	return nil
}

// Unproved returns a new configuration for a connection whose certificates prove nothing: whoever accepts shows one that was
// made for the occasion, whoever dials shows none. It is TLS 1.3 for the protocol name alpn, without resumption. Both sides
// must prove who they are by signing the connection's [Binding], and believe nothing before that.
func Unproved(alpn string) (*tls.Config, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{NotAfter: endless}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.private)
	if err != nil {
		return nil, fmt.Errorf("identity: certificate for the occasion: %w", err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		ServerName:             serverName,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key.private}},
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
		VerifyConnection:       func(cs tls.ConnectionState) error { return checkProtocol(cs, alpn) },
	}, nil
}

// Binding returns 32 bytes that both ends of a finished handshake have in common, and no other connection has: neither of
// two that somebody in the middle has joined (RFC 8446, 7.5).
func Binding(cs tls.ConnectionState) ([]byte, error) {
	b, err := cs.ExportKeyingMaterial("EXPORTER-peermesh-binding", nil, 32)
	if err != nil {
		return nil, fmt.Errorf("identity: binding of a connection: %w", err)
	}
	return b, nil
}
