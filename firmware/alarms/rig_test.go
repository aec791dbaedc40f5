package alarms

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"testing"
)

func wrapTLS(l net.Listener, web *httptest.Server) net.Listener {
	return tls.NewListener(l, &tls.Config{Certificates: web.TLS.Certificates})
}

func tlsOf(t *testing.T) *tls.Config {
	t.Helper()
	c, err := (&Target{}).tls()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
