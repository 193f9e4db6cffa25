import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** The whole client: Pawl's API is HTTP, and the standard library speaks it. */
final class Pawl {
    static final class Held extends Exception {
        Held(String detail) {
            super(detail);
        }
    }

    /** The lock was lost while the work was done: another may have begun. */
    static final class Lost extends Exception {
        Lost(String detail) {
            super(detail);
        }
    }

    record Grant(String leaseId, long fencingToken) {}

    interface Work {
        void run(Grant grant) throws Exception;
    }

    private static final String URL = System.getenv().getOrDefault("PAWL_URL", "http://127.0.0.1:4600");
    private static final String POLICY = System.getenv().getOrDefault("PAWL_POLICY", "-");
    private static final HttpClient CLIENT =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    /** Holds {@code key} while {@code work} runs; {@code ask} is JSON. Throws Lost after it if the lock did not last. */
    static void withLock(String key, String ask, Work work) throws Exception {
        HttpResponse<String> answer = call("POST", "/v1/locks/" + POLICY + "/" + key, ask);
        if (answer.statusCode() == 423) {
            throw new Held(text(answer.body(), "detail"));
        }
        if (answer.statusCode() != 200) {
            throw new IllegalStateException(text(answer.body(), "detail"));
        }
        Grant grant = new Grant(text(answer.body(), "leaseId"), number(answer.body(), "fencingToken"));
        try {
            work.run(grant);
        } catch (Exception failed) {
            call("DELETE", "/v1/leases/" + grant.leaseId(), null);
            throw failed;
        }
        HttpResponse<String> released = call("DELETE", "/v1/leases/" + grant.leaseId(), null);
        if (released.statusCode() == 410) {
            throw new Lost(text(released.body(), "detail"));
        }
    }

    /** Tells {@code granted} and {@code lost} as they come, for as long as the stream lives. */
    static void lead(String key, Consumer<String> on) throws Exception {
        HttpRequest request = request("POST", "/v1/locks/" + POLICY + "/" + key, "{\"wait\":\"1m\"}")
                .header("Accept", "text/event-stream")
                .build();
        CLIENT.send(request, BodyHandlers.ofLines()).body().forEach(line -> {
            if (line.startsWith("event: ")) {
                on.accept(line.substring("event: ".length()));
            }
        });
    }

    private static HttpResponse<String> call(String method, String path, String body) throws Exception {
        return CLIENT.send(request(method, path, body).build(), BodyHandlers.ofString());
    }

    private static HttpRequest.Builder request(String method, String path, String body) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(URL + path));
        if (body == null) {
            return request.method(method, HttpRequest.BodyPublishers.noBody());
        }
        return request.method(method, HttpRequest.BodyPublishers.ofString(body))
                .header("Content-Type", "application/json");
    }

    // Two fields of a flat answer; a program that has a JSON library uses it.
    private static String text(String json, String field) {
        var found = Pattern.compile("\"" + field + "\":\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(json);
        return found.find() ? found.group(1) : json;
    }

    private static long number(String json, String field) {
        var found = Pattern.compile("\"" + field + "\":(\\d+)").matcher(json);
        if (!found.find()) {
            throw new IllegalStateException("no " + field + " in " + json);
        }
        return Long.parseLong(found.group(1));
    }
}
