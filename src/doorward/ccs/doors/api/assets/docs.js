// Starts Swagger UI over our own description; in a file of its own, because no inline script is allowed.
window.ui = SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
