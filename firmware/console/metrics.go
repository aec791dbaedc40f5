package console

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapesMax bounds scrapes at one time: one scraper, and a person looking.
const scrapesMax = 4

// scrapes serves what the box measures to Prometheus: as OpenMetrics, with exemplars, to who asks for that, and in protobuf, with native
// histograms, to who asks for that.
func (c *Console) scrapes() http.HandlerFunc {
	return promhttp.HandlerFor(c.cfg.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax, EnableOpenMetrics: true}).ServeHTTP
}

// measured counts a route's requests and their time.
func (c *Console) measured(route string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, s := time.Now(), &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() { c.cfg.Metrics.HTTPAnswered(route, strconv.Itoa(s.code), time.Since(start)) }()
		next(s, r)
	})
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
