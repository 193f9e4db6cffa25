/** Says when this process leads and when it no longer does: {@code LeaderElection scheduler}. */
final class LeaderElection {
    public static void main(String[] args) throws Exception {
        while (true) {
            // The stream is the lease: when this process dies, the connection closes and the next candidate leads at once.
            try {
                Pawl.lead(args[0], event -> {
                    switch (event) {
                        case "granted" -> System.out.println("leading");
                        case "lost" -> System.out.println("deposed");
                        default -> { }
                    }
                });
            } catch (java.io.IOException | java.io.UncheckedIOException error) {
                System.err.println("no stream: " + error.getMessage());
            }
            Thread.sleep(1000);
        }
    }
}
